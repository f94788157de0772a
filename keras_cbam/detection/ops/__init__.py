"""Pure functions on tensors of boxes and feature maps."""

from typing import Any

import keras

# Keras' functions have no types of their own.
ops: Any = keras.ops
