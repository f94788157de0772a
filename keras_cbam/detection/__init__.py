"""Detectors with attention, their data and their metrics. Needs `keras_cbam[detection]`."""

try:
    import keras_cv as _keras_cv  # noqa: F401
except ImportError as error:
    raise ImportError(
        "keras_cbam.detection needs keras-cv: pip install keras_cbam[detection]"
    ) from error

from keras_cbam.detection.batches import detection_batches, reading
from keras_cbam.detection.coco_folder import coco_folder
from keras_cbam.detection.coco_metrics import coco_metrics
from keras_cbam.detection.data import load_detection_data
from keras_cbam.detection.detection_set import DetectionData, DetectionSet
from keras_cbam.detection.evaluation import evaluate_detector, predict_detections
from keras_cbam.detection.scenes import clothing_scenes
from keras_cbam.detection.voc_folder import voc_folder
from keras_cbam.detection.voc_metrics import voc_metrics

__all__ = [
    "DetectionData",
    "DetectionSet",
    "clothing_scenes",
    "coco_folder",
    "coco_metrics",
    "detection_batches",
    "evaluate_detector",
    "load_detection_data",
    "predict_detections",
    "reading",
    "voc_folder",
    "voc_metrics",
]
