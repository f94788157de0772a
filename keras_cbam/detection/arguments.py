"""The arguments of a training of a detector, and what each recipe takes for those not given.

Nothing here imports Keras: the command line is checked before that is loaded.
"""

import dataclasses
import os
from typing import Any

from keras_cbam.errors import at_least, number, one_of, positive_integer, require
from keras_cbam.training.arguments import (
    RunArguments,
    data_field,
    filled,
    network_field,
    optimization_field,
)
from keras_cbam.training.run_folder import MODEL

DETECTORS = ("ssd", "stairnet", "faster_rcnn")
SMALL = "small"
SCENES = "scenes"
IMAGENET = "imagenet"
AUGMENTATIONS = ("flip_crop_color", "ssd", "flip", "none")
SMALLEST_IMAGE = 32
DEFAULTS = {
    "backbone": SMALL,
    "image_size": 96,
    "augment": "flip_crop_color",
    "epochs": 18,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "weight_decay": 1e-4,
}
_SSD300 = {
    "backbone": "vgg16",
    "image_size": 300,
    "augment": "ssd",
    "batch_size": 32,
    "iterations": 120_000,
    "decay_iterations": (80_000, 100_000),
    "learning_rate": 1e-3,
    "weight_decay": 5e-4,
}
# For the sources see `keras_cbam.detection.recipes`.
PAPER = {
    "ssd": _SSD300,
    "stairnet": _SSD300,
    "faster_rcnn": {
        "backbone": "ResNet50",
        "image_size": 1000,
        "short_side": (600,),
        "augment": "flip",
        "batch_size": 1,
        "iterations": 490_000,
        "decay_iterations": (350_000,),
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
    },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorArguments(RunArguments):
    """The arguments of `train_detector`."""

    detector: str = network_field("what to train", "ssd", choices=DETECTORS)
    recipe: str = network_field(
        "default: short trainings by AdamW; paper: the detector's published training, from "
        "ImageNet weights, on VOC 2007 and 2012 (ssd, stairnet) or COCO (faster_rcnn)",
        "default",
        choices=("default", "paper"),
    )
    data: str = data_field(
        "scenes, drawn from embedded Fashion-MNIST images, or a folder in the layout of COCO "
        "(annotations or annotations.json) or VOC (ImageSets, or a subfolder a year with it)",
        SCENES,
        metavar="DATA",
        may_change=True,
    )
    train_split: str = data_field(
        "what to train on, in the folder: VOC2007/trainval+VOC2012/trainval for example, or for "
        "COCO a JSON file and its image folder, annotations/some.json:images",
        metavar="SPLIT",
    )
    validation_split: str = data_field("what to measure on after each epoch", metavar="SPLIT")
    test_split: str = data_field("what to measure on at the end", metavar="SPLIT")
    backbone: str = network_field(
        "small, vgg16, mobilenet or a model of keras.applications", metavar="NAME"
    )
    attention: Any = network_field(  # noqa: RUF009
        "cbam, se, bam, channel, spatial, control or none: before every classifier of ssd and "
        "stairnet, in the blocks of the backbone of faster_rcnn",
        "cbam",
        metavar="NAME",
    )
    weights: str = network_field(
        "of the backbone: imagenet, none, a weights file, or the run of a classifier, of which the "
        "layers of the same names are taken; small starts from random weights",
        metavar="WEIGHTS",
    )
    freeze_batch_norm: bool = network_field(
        "the backbone's batch normalization keeps its statistics and is not trained; by default "
        "where weights are given",
        check=one_of(None, False, True),
    )
    image_size: int = data_field(
        "side of the square that an image is fitted into, its aspect kept: the longest side that "
        "an image may have",
        check=at_least(SMALLEST_IMAGE),
        metavar="PIXELS",
    )
    short_side: Any = data_field(  # noqa: RUF009
        "what the shorter side of an image is resized to, as far as image_size allows; of several, "
        "480,600 for example, one is drawn for each batch, and the largest is tested with",
        metavar="PIXELS",
    )
    augment: str = data_field(
        "of the training images: flip_crop_color, which flips, magnifies, crops and brightens them "
        "at random; ssd, that of its paper; flip, left to right; or none",
        choices=AUGMENTATIONS,
    )
    train_scenes: int = data_field("scenes to train on", 5000, positive_integer)
    test_scenes: int = data_field("scenes to test on", 500, positive_integer)
    weight_decay: float = optimization_field(
        "decoupled, of everything; recipe paper: in the gradient, of kernels",
        check=number(),
        metavar="DECAY",
    )
    iterations: int = optimization_field(
        "recipe paper: training steps, to the nearest whole epoch; epochs go before it",
        check=positive_integer,
    )
    decay_iterations: Any = optimization_field(  # noqa: RUF009
        "recipe paper: the rate is divided by ten after these of the iterations, and in proportion "
        "where epochs are given"
    )

    @property
    def splits(self) -> tuple[str | None, str | None, str | None]:
        return self.train_split, self.validation_split, self.test_split

    def completed(self) -> "DetectorArguments":
        one_of(*DETECTORS)("detector", self.detector)
        is_paper = self.recipe == "paper"
        args = filled(self, PAPER[self.detector] if is_paper else DEFAULTS, SCENES)
        numbers = ("short_side", "decay_iterations")
        found: dict[str, Any] = {name: _integers(name, getattr(args, name)) for name in numbers}
        if args.weights not in (None, IMAGENET) and os.path.isdir(args.weights):
            found["weights"] = os.path.join(args.weights, MODEL)
        if args.freeze_batch_norm is None:
            found["freeze_batch_norm"] = args.weights is not None
        return dataclasses.replace(args, **found)._checked(is_paper)

    def _checked(self, is_paper):
        self.check()
        drops, sides = self.decay_iterations or (), self.short_side or (0,)
        is_rising = list(drops) == sorted(set(drops)) and max((0, *drops)) <= (self.iterations or 0)
        is_file = self.weights in (None, IMAGENET) or os.path.isfile(self.weights)
        for is_met, requirement, name in (
            (is_paper or self.iterations is None, "is for the recipe 'paper'", "iterations"),
            (is_paper or not drops, "is for the recipe 'paper'", "decay_iterations"),
            (not is_paper or is_rising, "must rise, up to `iterations`", "decay_iterations"),
            (is_file, 'must be "imagenet", None or the path of a file or of a run', "weights"),
            (
                not is_paper or self.weights is not None,
                "must be given for the recipe 'paper': published trainings start from ImageNet's",
                "weights",
            ),
            (max(sides) <= self.image_size, f"must be at most {self.image_size}", "short_side"),
            (self.data != SCENES or not any(self.splits), "must be a folder with splits", "data"),
        ):
            require(is_met, f"`{name}` {requirement}.", f"{name}={getattr(self, name)!r}")
        refuse_weights_of_small(self.backbone, self.weights)
        return self


def _integers(name, value):
    """A tuple of positive integers, of one, of several, or of a text such as `"480,600"`."""
    if value is None:
        return None
    values = value.split(",") if isinstance(value, str) else value
    values = values if isinstance(values, (list, tuple)) and values else [values]
    try:
        return tuple(
            positive_integer(name, int(one) if isinstance(one, str) else one) for one in values
        )
    except ValueError as error:
        requirement = f"`{name}` must be positive integers, separated by commas."
        raise ValueError(f"{requirement} Received: {name}={value!r}") from error


def refuse_weights_of_small(backbone: str, weights: str | None) -> None:
    if backbone == SMALL and weights is not None:
        raise ValueError(
            f"The small backbone starts from random weights. Received: weights={weights!r}"
        )
