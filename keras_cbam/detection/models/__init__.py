"""Detectors and the backbones they are built on."""

import keras_cbam.detection.extra  # noqa: F401
