"""Detectors of objects with attention, on the parts of keras_cv."""

try:
    import keras_cv  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"Detection needs keras_cv: run `pip install keras_cbam[detection]`. {error}"
    ) from error

from keras_cbam.detection.backbone import detection_backbone

__all__ = ["detection_backbone"]
