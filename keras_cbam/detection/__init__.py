"""Detectors with attention, their data and their metrics, on the parts of keras_cv."""

try:
    import defusedxml  # noqa: F401
    import keras_cv  # noqa: F401
    import pycocotools  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"Detection needs further packages: run `pip install keras_cbam[detection]`. {error}"
    ) from error

from keras_cbam.detection.backbone import detection_backbone
from keras_cbam.detection.backbones import (
    application_backbone,
    small_backbone,
    ssd_mobilenet,
    ssd_vgg16,
)
from keras_cbam.detection.batches import detection_batches, reading
from keras_cbam.detection.boxes import decode_boxes, encode_boxes
from keras_cbam.detection.coco_folder import coco_folder
from keras_cbam.detection.coco_metrics import coco_metrics, precision_recall
from keras_cbam.detection.data import load_detection_data
from keras_cbam.detection.detection_set import DetectionData, DetectionSet
from keras_cbam.detection.detectors import build_detector, compile_detector
from keras_cbam.detection.evaluation import evaluate_detector, predict_detections
from keras_cbam.detection.faster_rcnn import FasterRCNN
from keras_cbam.detection.figures import plot_detections, plot_precision_recall
from keras_cbam.detection.predict import detect_in_pictures
from keras_cbam.detection.saved import load_detector
from keras_cbam.detection.scenes import clothing_scenes
from keras_cbam.detection.ssd import SSD
from keras_cbam.detection.stairnet import StairNet
from keras_cbam.detection.train import DetectionRun, train_detector
from keras_cbam.detection.voc_folder import voc_folder
from keras_cbam.detection.voc_metrics import voc_metrics

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
