"""Detectors with attention, their data and their metrics."""

from keras_cbam._lazy import lazy_names

_MODULES = {
    "arguments": ("DetectorArguments",),
    "data.batches": ("detection_batches",),
    "data.coco_folder": ("coco_folder",),
    "data.detection_set": ("DetectionData", "DetectionSet"),
    "data.load": ("load_detection_data",),
    "data.scenes": ("clothing_scenes",),
    "data.sized_images": ("SizedImages",),
    "data.voc_folder": ("voc_folder",),
    "evaluate": ("evaluate_detector", "evaluate_run", "predict_detections"),
    "explain": ("detect_in_images", "explain_run"),
    "export": ("export_run",),
    "figures": ("plot_detections", "plot_precision_recall"),
    "loading": ("load_detector",),
    "metrics.coco_metrics": ("coco_metrics", "precision_recall"),
    "metrics.voc_metrics": ("voc_metrics",),
    "models.backbone_of_any_model": ("detection_backbone",),
    "models.build": ("build_detector", "compile_detector"),
    "models.faster_rcnn": ("FasterRCNN",),
    "models.named_backbones": (
        *("application_backbone", "small_backbone", "ssd_mobilenet", "ssd_vgg16"),
    ),
    "models.ssd": ("SSD",),
    "models.stairnet": ("StairNet",),
    "ops.boxes": ("decode_boxes", "encode_boxes"),
    "predict": ("predict_run",),
    "task": ("DetectionTask", "compare", "train_detector"),
}

__getattr__, __dir__, __all__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}
)
