"""Pure functions on boxes and feature maps."""

import keras_cbam.detection.extra  # noqa: F401
