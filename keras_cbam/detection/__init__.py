"""Detectors with attention, their data and their metrics."""

from typing import TYPE_CHECKING

from keras_cbam._lazy import import_lazily

if TYPE_CHECKING:
    from keras_cbam.detection.arguments import DetectorArguments as DetectorArguments
    from keras_cbam.detection.data.batches import detection_batches as detection_batches
    from keras_cbam.detection.data.coco_folder import coco_folder as coco_folder
    from keras_cbam.detection.data.detection_set import DetectionData as DetectionData
    from keras_cbam.detection.data.detection_set import DetectionSet as DetectionSet
    from keras_cbam.detection.data.load import load_detection_data as load_detection_data
    from keras_cbam.detection.data.scenes import clothing_scenes as clothing_scenes
    from keras_cbam.detection.data.sized_images import SizedImages as SizedImages
    from keras_cbam.detection.data.voc_folder import voc_folder as voc_folder
    from keras_cbam.detection.evaluate import evaluate_detector as evaluate_detector
    from keras_cbam.detection.evaluate import evaluate_run as evaluate_run
    from keras_cbam.detection.evaluate import predict_detections as predict_detections
    from keras_cbam.detection.explain import explain_run as explain_run
    from keras_cbam.detection.export import export_run as export_run
    from keras_cbam.detection.figures import plot_detections as plot_detections
    from keras_cbam.detection.figures import plot_precision_recall as plot_precision_recall
    from keras_cbam.detection.loading import load_detector as load_detector
    from keras_cbam.detection.metrics.coco_metrics import coco_metrics as coco_metrics
    from keras_cbam.detection.metrics.coco_metrics import precision_recall as precision_recall
    from keras_cbam.detection.metrics.voc_metrics import voc_metrics as voc_metrics
    from keras_cbam.detection.models.backbone_of_any_model import (
        detection_backbone as detection_backbone,
    )
    from keras_cbam.detection.models.build import build_detector as build_detector
    from keras_cbam.detection.models.faster_rcnn import FasterRCNN as FasterRCNN
    from keras_cbam.detection.models.named_backbones import (
        application_backbone as application_backbone,
    )
    from keras_cbam.detection.models.named_backbones import small_backbone as small_backbone
    from keras_cbam.detection.models.named_backbones import ssd_vgg16 as ssd_vgg16
    from keras_cbam.detection.models.ssd import SSD as SSD
    from keras_cbam.detection.models.stairnet import StairNet as StairNet
    from keras_cbam.detection.ops.boxes import decode_boxes as decode_boxes
    from keras_cbam.detection.ops.boxes import encode_boxes as encode_boxes
    from keras_cbam.detection.predict import predict_run as predict_run
    from keras_cbam.detection.task import DetectionTask as DetectionTask
    from keras_cbam.detection.task import compare as compare
    from keras_cbam.detection.task import train_detector as train_detector

import_lazily(__name__)
