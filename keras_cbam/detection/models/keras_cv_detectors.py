"""RetinaNet and YOLOV8 of keras-cv, beside our own detectors; they need the extra `[keras-cv]`."""

from typing import Any

import keras

from keras_cbam.detection.extra import library
from keras_cbam.detection.ops.suppression import suppress_in_classes

# The losses of their papers, by the name of the class.
_LOSSES = {
    "RetinaNet": {"box_loss": "smoothl1", "classification_loss": "focal"},
    "YOLOV8Detector": {"box_loss": "ciou", "classification_loss": "binary_crossentropy"},
}


@keras.saving.register_keras_serializable(package="keras_cbam")
class ClassSuppression(keras.layers.Layer):
    """The `prediction_decoder` that gives keras-cv's detectors the suppression of ours.

    Their own suppresses a box by those of other classes, so that average precisions do not compare.
    """

    bounding_box_format = "xyxy"

    def __init__(self, from_logits: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.from_logits = from_logits
        self.built = True

    def call(self, boxes: Any, classes: Any, images: Any = None, image_shape: Any = None) -> dict:
        confidence = keras.ops.sigmoid(classes) if self.from_logits else classes
        return suppress_in_classes(boxes, confidence)

    def get_config(self) -> dict:
        return {**super().get_config(), "from_logits": self.from_logits}


def keras_cv_detector(
    detector: str, backbone: keras.Model, num_classes: int, image_size: int
) -> keras.Model:
    """`"retinanet"` or `"yolov8"` on a `keras_cv.models.Backbone`."""
    keras_cv = library("keras_cv", "keras-cv")
    is_yolo = detector == "yolov8"
    shared = {
        "num_classes": num_classes,
        "bounding_box_format": "xyxy",
        "backbone": backbone,
        "prediction_decoder": ClassSuppression(from_logits=not is_yolo),
    }
    if is_yolo:
        return keras_cv.models.YOLOV8Detector(fpn_depth=1, **shared)
    # keras-cv's anchors are of 32 pixels at stride 8, for images of 512.
    anchors = keras_cv.layers.AnchorGenerator(
        bounding_box_format="xyxy",
        sizes=[4.0 * 2**level * min(1.0, image_size / 256) for level in range(3, 8)],
        scales=[2 ** (i / 3) for i in range(3)],
        aspect_ratios=[0.5, 1.0, 2.0],
        strides=[2**level for level in range(3, 8)],
        clip_boxes=True,
    )
    return keras_cv.models.RetinaNet(anchor_generator=anchors, **shared)


def keras_cv_losses(model: Any) -> dict[str, str] | None:
    """The losses for the `compile` of a detector of keras-cv; `None` for any other model."""
    is_theirs = type(model).__module__.startswith("keras_cv.")
    return _LOSSES.get(type(model).__name__) if is_theirs else None
