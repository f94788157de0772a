"""How good detections are, by COCO's and by VOC's rules."""

import keras_cbam.detection.extra  # noqa: F401
