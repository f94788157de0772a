"""The arguments of a training of a detector; nothing here imports Keras."""

import dataclasses
import os
from typing import Any

from keras_cbam.errors import at_least, positive_integer
from keras_cbam.training.arguments import RunArguments, data_field, existing_path, network_field

DETECTORS = ("ssd", "stairnet", "faster_rcnn")
SMALL = "small"
SCENES = "scenes"
IMAGENET = "imagenet"
AUGMENTATIONS = ("flip_crop_color", "none")
SMALLEST_IMAGE = 32
DEFAULTS = {"epochs": 18, "batch_size": 16, "learning_rate": 3e-3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorArguments(RunArguments):
    """The arguments of `train_detector`."""

    detector: str = network_field("what to train", "ssd", choices=DETECTORS)
    data: str = data_field(
        "scenes, drawn from embedded Fashion-MNIST images, or a folder in the layout of COCO "
        "(annotations or annotations.json) or VOC (ImageSets)",
        SCENES,
        metavar="DATA",
        may_change=True,
    )
    backbone: str = network_field(
        "small, vgg16, mobilenet or a model of keras.applications", SMALL, metavar="NAME"
    )
    attention: Any = network_field(  # noqa: RUF009
        "cbam, se, bam, channel, spatial or none: before every classifier of ssd and stairnet, in "
        "the blocks of the backbone of the others",
        "cbam",
        metavar="NAME",
    )
    weights: str = network_field(
        "of the backbone: imagenet, none or a weights file; small starts from random weights",
        metavar="WEIGHTS",
    )
    image_size: int = data_field(
        "side of the square images in pixels", 96, at_least(SMALLEST_IMAGE), metavar="PIXELS"
    )
    augment: str = data_field(
        "of the training images: flip_crop_color, which flips, magnifies, crops and brightens them "
        "at random; or none",
        "flip_crop_color",
        choices=AUGMENTATIONS,
    )
    train_scenes: int = data_field("scenes to train on", 5000, positive_integer)
    test_scenes: int = data_field("scenes to test on", 500, positive_integer)

    def completed(self) -> "DetectorArguments":
        missing = {name: value for name, value in DEFAULTS.items() if getattr(self, name) is None}
        # The name of what is built in is never that of a file.
        paths = {
            "data": existing_path(self.data, SCENES),
            "weights": existing_path(self.weights, IMAGENET),
        }
        # What the command line calls none.
        paths |= {name: None for name in ("attention", "weights") if getattr(self, name) == "none"}
        return dataclasses.replace(self, **missing, **paths)._checked()

    def _checked(self):
        self.check()
        if self.weights not in (None, IMAGENET) and not os.path.isfile(self.weights):
            raise ValueError(
                '`weights` must be "imagenet", None or the path of a file. '
                f"Received: weights={self.weights!r}"
            )
        refuse_weights_of_small(self.backbone, self.weights)
        return self


def refuse_weights_of_small(backbone: str, weights: str | None) -> None:
    if backbone == SMALL and weights is not None:
        raise ValueError(
            f"The small backbone starts from random weights. Received: weights={weights!r}"
        )
