"""Detectors with attention, their data and their metrics, on the parts of keras_cv."""

try:
    import defusedxml  # noqa: F401
    import keras_cv  # noqa: F401
    import pycocotools  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"Detection needs further packages: run `pip install keras_cbam[detection]`. {error}"
    ) from error

from keras_cbam.detection.data.batches import detection_batches, reading
from keras_cbam.detection.data.coco_folder import coco_folder
from keras_cbam.detection.data.detection_set import DetectionData, DetectionSet
from keras_cbam.detection.data.load import load_detection_data
from keras_cbam.detection.data.scenes import clothing_scenes
from keras_cbam.detection.data.voc_folder import voc_folder
from keras_cbam.detection.evaluate import evaluate_detector, predict_detections
from keras_cbam.detection.figures import plot_detections, plot_precision_recall
from keras_cbam.detection.loading import load_detector
from keras_cbam.detection.metrics.coco_metrics import coco_metrics, precision_recall
from keras_cbam.detection.metrics.voc_metrics import voc_metrics
from keras_cbam.detection.models.backbone_of_any_model import detection_backbone
from keras_cbam.detection.models.build import build_detector, compile_detector
from keras_cbam.detection.models.faster_rcnn import FasterRCNN
from keras_cbam.detection.models.named_backbones import (
    application_backbone,
    small_backbone,
    ssd_mobilenet,
    ssd_vgg16,
)
from keras_cbam.detection.models.ssd import SSD
from keras_cbam.detection.models.stairnet import StairNet
from keras_cbam.detection.ops.boxes import decode_boxes, encode_boxes
from keras_cbam.detection.predict import detect_in_pictures
from keras_cbam.detection.task import DetectionRun, train_detector

__all__ = [
    "SSD",
    "DetectionData",
    "DetectionRun",
    "DetectionSet",
    "FasterRCNN",
    "StairNet",
    "application_backbone",
    "build_detector",
    "clothing_scenes",
    "coco_folder",
    "coco_metrics",
    "compile_detector",
    "decode_boxes",
    "detect_in_pictures",
    "detection_backbone",
    "detection_batches",
    "encode_boxes",
    "evaluate_detector",
    "load_detection_data",
    "load_detector",
    "plot_detections",
    "plot_precision_recall",
    "precision_recall",
    "predict_detections",
    "reading",
    "small_backbone",
    "ssd_mobilenet",
    "ssd_vgg16",
    "train_detector",
    "voc_folder",
    "voc_metrics",
]
