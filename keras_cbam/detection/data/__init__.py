"""Images with boxes, from wherever they are, to batches."""

import keras_cbam.detection.extra  # noqa: F401
