"""Detectors by name, for the command and the benchmark."""

from typing import Any

import keras

from keras_cbam._types import Attention
from keras_cbam.applications import application_names
from keras_cbam.detection.arguments import DETECTORS, SMALL, refuse_weights_of_small
from keras_cbam.detection.models import named_backbones
from keras_cbam.detection.models.backbone_of_any_model import feature_levels
from keras_cbam.detection.models.extra_feature_maps import takes_two_off
from keras_cbam.detection.models.faster_rcnn import FasterRCNN
from keras_cbam.detection.models.ssd import SSD
from keras_cbam.detection.models.stairnet import StairNet
from keras_cbam.errors import near_names, one_of

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
        detector: `"ssd"`, `"stairnet"` or `"faster_rcnn"`.
        num_classes: int, classes without background.
        image_size: int, side of the images in pixels.
        backbone: `"small"` (see `small_backbone`), `"vgg16"`, `"mobilenet"` (for SSD and StairNet
            as in their papers), or any name in `keras.applications`. Defaults to `"small"`.
        attention: see `insert_attention`. In SSD and StairNet right before every classifier, in
            Faster R-CNN in the backbone's blocks. Defaults to `"cbam"`.
        weights: of the backbone, see `attention_backbone`. Defaults to `None`: random.

    Returns:
        A Keras model that takes pixels in [0, 255], `(batch, image_size, image_size, 3)`.

    Raises:
        ValueError: if the detector is unknown, or an argument does not fit it.

    Example:

    >>> model = build_detector("ssd", num_classes=10, image_size=96)
    """
    one_of(*DETECTORS)("detector", detector)
    check_backbone(backbone)
    refuse_weights_of_small(backbone, weights)
    shape = (image_size, image_size, 3)
    if detector == "faster_rcnn":
        network = _backbone(backbone, shape, attention, weights, (2, 3, 4, 5))
        return FasterRCNN(network, num_classes, **(SMALL_FASTER_RCNN if backbone == SMALL else {}))
    # Strides of 8 and 16 pixels suit images below SSD's 300.
    levels = (4, 5) if image_size >= 256 and backbone != SMALL else (3, 4)
    if backbone == "vgg16":
        network = named_backbones.ssd_vgg16(shape, weights)
    else:
        network = _backbone(backbone, shape, None, weights, levels)
    single_shot, stairs = _single_shot_arguments(network, backbone)
    if detector == "ssd":
        return SSD(network, num_classes, attention, **single_shot)
    return StairNet(network, num_classes, attention, **single_shot, **stairs)


def _backbone(name: str, shape, attention, weights, levels):
    if name == SMALL:
        return named_backbones.small_backbone(shape, attention, levels)
    name = {"vgg16": "VGG16", "mobilenet": "MobileNet"}.get(name, name)
    return named_backbones.application_backbone(name, shape, attention, weights, levels)


def _single_shot_arguments(network, backbone) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the CBAM paper's VGG16 and MobileNet have, of both detectors and of StairNet alone."""
    arguments = {"extra_padding": "same", "use_batch_norm": True}
    filters, stairs = (512, 256, 256, 128), {}
    if backbone == "vgg16":
        arguments, filters = {"extra_padding": "valid"}, (512, 256, 256, 256)
    elif backbone == SMALL:
        filters, stairs = (128,) * 4, {"filters": 64}
    elif backbone == "mobilenet":
        arguments["head_kernel_size"] = 1
        stairs = {"filters": 128, "separable": True}
    # Feature maps down to one position.
    size, count = list(feature_levels(network).values())[-1].shape[1], 0
    while size > 1 and count < len(filters):
        size = size - 2 if takes_two_off(size, arguments["extra_padding"]) else -(-size // 2)
        count += 1
    return {"extra_filters": filters[:count], **arguments}, stairs
