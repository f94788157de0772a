"""Detectors by name, for the command and the benchmark."""

from typing import Any

import keras

from keras_cbam._types import Attention
from keras_cbam.applications import application_names
from keras_cbam.detection.arguments import (
    DETECTORS,
    KERAS_CV_DETECTORS,
    SMALL,
    refuse_weights_of_small,
)
from keras_cbam.detection.models.backbone_of_any_model import feature_levels
from keras_cbam.detection.models.faster_rcnn import FasterRCNN
from keras_cbam.detection.models.keras_cv_detectors import keras_cv_detector, keras_cv_losses
from keras_cbam.detection.models.named_backbones import (
    application_backbone,
    small_backbone,
    ssd_mobilenet,
    ssd_vgg16,
)
from keras_cbam.detection.models.ssd import SSD
from keras_cbam.detection.models.stairnet import StairNet
from keras_cbam.errors import near_names

# These have attention before the classifiers, the others in the backbone's blocks.
SINGLE_SHOT = {"ssd": SSD, "stairnet": StairNet}
# Those that are not by their names in `keras.applications`.
BACKBONES = (SMALL, "vgg16", "mobilenet")
SMALL_FASTER_RCNN = {
    "anchor_scale": 4.0,
    "filters": 64,
    "head_units": 256,
    "num_proposals": (50, 50),
    "sampled_anchors": 128,
    "sampled_proposals": 32,
    "use_layer_norm": True,
}


def check_backbone(name: str) -> None:
    """Raises ValueError, with names that are near, unless there is a backbone of that name."""
    names = (*BACKBONES, *application_names())
    if name not in names:
        raise ValueError(f"Unknown backbone. {near_names(name, names)} Received: backbone={name!r}")


def build_detector(
    detector: str,
    num_classes: int,
    image_size: int,
    backbone: str = SMALL,
    attention: Attention = "cbam",
    weights: str | None = None,
) -> keras.Model:
    """A detector for square images, uncompiled.

    Args:
        detector: `"ssd"`, `"stairnet"`, `"faster_rcnn"`, or keras-cv's `"retinanet"` or `"yolov8"`.
        num_classes: int, classes without background.
        image_size: int, side of the images in pixels.
        backbone: `"small"` (see `small_backbone`), `"vgg16"`, `"mobilenet"` (for SSD and StairNet
            as in their papers), or any name in `keras.applications`. Defaults to `"small"`.
        attention: see `insert_attention`. In SSD and StairNet right before every classifier, in the
            others in the backbone's blocks. Defaults to `"cbam"`.
        weights: of the backbone, see `attention_backbone`. Defaults to `None`: random.

    Returns:
        A Keras model that takes pixels in [0, 255], `(batch, image_size, image_size, 3)`.

    Raises:
        ValueError: if the detector is unknown, or an argument does not fit it.

    Example:

    >>> model = build_detector("ssd", num_classes=10, image_size=96)
    """
    if detector not in DETECTORS:
        raise ValueError(
            f"Unknown detector. {near_names(detector, DETECTORS)} Received: detector={detector!r}"
        )
    check_backbone(backbone)
    refuse_weights_of_small(backbone, weights)
    network = _backbone(backbone, image_size, attention, weights, detector)
    if detector in SINGLE_SHOT:
        arguments = _single_shot_arguments(detector, network, backbone)
        return SINGLE_SHOT[detector](network, num_classes, attention, **arguments)
    if detector == "faster_rcnn":
        return FasterRCNN(network, num_classes, **(SMALL_FASTER_RCNN if backbone == SMALL else {}))
    return keras_cv_detector(detector, network, num_classes, image_size)


def compile_detector(model: Any, optimizer: Any, jit_compile: bool | str = False) -> None:
    """Compiles a detector of `build_detector` with the losses of its paper.

    Args:
        model: what `build_detector` returned.
        optimizer, jit_compile: as in `keras.Model.compile`.
    """
    losses = keras_cv_losses(model) or {}
    model.compile(optimizer=optimizer, jit_compile=jit_compile, **losses)


def _backbone(name: str, image_size, attention, weights, detector):
    shape = (image_size, image_size, 3)
    levels = (2, 3, 4, 5) if detector == "faster_rcnn" else (3, 4, 5)
    if detector in SINGLE_SHOT:
        attention = None
        # Strides of 8 and 16 pixels suit images below SSD's 300.
        levels = (4, 5) if image_size >= 256 and name != SMALL else (3, 4)
        if name == "vgg16":
            return ssd_vgg16(shape, weights)
        if name == "mobilenet":
            return ssd_mobilenet(shape, weights=weights, levels=levels)
    library = "keras_cv" if detector in KERAS_CV_DETECTORS else "keras_hub"
    if name == SMALL:
        return small_backbone(shape, attention, levels, library)
    name = {"vgg16": "VGG16", "mobilenet": "MobileNet"}.get(name, name)
    return application_backbone(name, shape, attention, weights, levels, library)


def _single_shot_arguments(detector, network, backbone):
    """What the CBAM paper's VGG16 and MobileNet have, with maps from the last down to one cell."""
    size = list(feature_levels(network).values())[-1].shape[1]
    arguments, filters, stairs = {}, (512, 256, 256, 256), {}
    if backbone != "vgg16":
        arguments = {"extra_padding": "same", "use_batch_norm": True}
        filters = (512, 256, 256, 128)
    if backbone == SMALL:
        filters, stairs = (128,) * 4, {"filters": 64}
    elif backbone == "mobilenet":
        arguments["head_kernel_size"] = 1
        stairs = {"filters": 128, "separable": True}
    if detector == "stairnet":
        arguments |= stairs
    count = 0
    while size > 1 and count < 4:
        takes_two_off = backbone == "vgg16" and 3 <= size <= 5
        size = size - 2 if takes_two_off else -(-size // 2)
        count += 1
    return {"extra_filters": filters[:count], **arguments}
