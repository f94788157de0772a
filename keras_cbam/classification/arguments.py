"""The arguments of a training of a classifier, and what each recipe takes for those not given."""

import dataclasses

from keras_cbam.data.class_names import AUGMENTATIONS, CLASS_NAMES
from keras_cbam.errors import at_least, near_names, number, one_of, positive_integer
from keras_cbam.training.arguments import (
    RunArguments,
    data_field,
    filled,
    network_field,
    optimization_field,
)

RECIPES = {
    # A network that fits small images and two CPU cores, and whose last maps have 8 x 8 positions.
    "default": {
        "backbone": "ResNet14",
        "backbone_arguments": {},
        "where": "auto",
        "image_size": 32,
        "epochs": 8,
        "batch_size": 128,
        "learning_rate": 0.15,
        "weight_decay": 0.0,
        "augment": "flip",
    },
    "fine-tuning": {
        "backbone_arguments": {},
        "where": "auto",
        "image_size": 96,
        "epochs": 9,
        "freeze_epochs": 2,
        "batch_size": 32,
        "learning_rate": 0.003,
        "weight_decay": 1e-4,
        "augment": "flip",
    },
    "paper": {
        "backbone": "ResNet50",
        "backbone_arguments": {},
        "image_size": 224,
        "epochs": 90,
        "batch_size": 256,
        "learning_rate": 0.1,
        "decay_epochs": 30,
        "weight_decay": 1e-4,
        "augment": "crop",
    },
}
# Of the default recipe, where the network starts from given weights.
FROM_WEIGHTS = {"learning_rate": 0.01, "weight_decay": 1e-4}
# Arguments that only some recipes have.
ONLY_OF = {
    "freeze_epochs": ("fine-tuning",),
    "decay_epochs": ("paper",),
    "where": ("default", "fine-tuning"),
    "weights": ("default", "fine-tuning"),
}
# The networks of the paper, of `keras_cbam.models`, and what the recipe sets of their arguments.
PAPER_NETWORKS = (
    *("ResNet18", "ResNet34", "ResNet50", "ResNet101", "WideResNet18"),
    *("ResNeXt50", "ResNeXt101", "MobileNet"),
)
SET_BY_THE_RECIPE = {
    *("attention", "num_classes", "include_top", "input_shape", "include_preprocessing"),
    *("pooling", "classifier_activation"),
}
# The network of `keras_cbam.models` that the default recipe takes.
SMALL_NETWORK = "ResNet14"
SMALLEST_IMAGE = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierArguments(RunArguments):
    """The arguments of `train_classifier`."""

    recipe: str = network_field(
        "default: short trainings from random or given weights; fine-tuning: of given weights, the "
        "attention first; paper: the ImageNet training of the CBAM paper, of its networks",
        "default",
        choices=tuple(RECIPES),
    )
    data: str = data_field(
        "a folder with one subfolder of images a class, or with train and val or test or both; an "
        ".npz file; or mnist, fashion_mnist, cifar10, cifar100; by default 7,000 embedded "
        "Fashion-MNIST images",
        metavar="DATA",
        may_change=True,
    )
    backbone: str = network_field(
        f"a model of keras.applications, or {SMALL_NETWORK}, the default; recipe paper: "
        f"{', '.join(PAPER_NETWORKS)}",
        metavar="NAME",
    )
    backbone_arguments: dict = network_field(  # noqa: RUF009
        "a further argument of the backbone, alpha=0.5 for example; may be repeated",
        metavar="NAME=VALUE",
    )
    attention: object = network_field(
        "cbam, se, bam, channel, spatial, control or none", "cbam", metavar="NAME"
    )
    where: object = network_field(
        "the layers that get attention; by default those of find_sites for a named backbone",
        metavar="REGEX",
    )
    weights: str = network_field("imagenet, none or a weights file", metavar="WEIGHTS")
    image_size: int = data_field(
        "side of the square images in pixels", check=at_least(SMALLEST_IMAGE), metavar="PIXELS"
    )
    augment: str = data_field(
        "of the training images: flip, left to right at random, which is wrong for digits; crop, "
        "the paper's random parts, resized and flipped; or none",
        choices=AUGMENTATIONS,
    )
    class_weights: str = optimization_field(
        "balanced: the loss of an image is divided by how frequent its class is",
        choices=("balanced",),
    )
    label_smoothing: float = optimization_field(
        "part of a label that is spread evenly over all classes",
        0.0,
        number(below=1),
        metavar="PART",
    )
    weight_decay: float = optimization_field(
        "decoupled, of kernels; recipe paper: in the gradient of everything",
        check=number(),
        metavar="DECAY",
    )
    freeze_epochs: int = optimization_field(
        "recipe fine-tuning: epochs in which only the attention and the head train",
        check=at_least(0),
    )
    decay_epochs: int = optimization_field(
        "recipe paper: the rate is divided by ten after every N epochs", check=positive_integer
    )

    def completed(self):
        one_of(*RECIPES)("recipe", self.recipe)
        defaults = dict(RECIPES[self.recipe])
        for name, recipes in ONLY_OF.items():
            value = getattr(self, name)
            if value is not None and self.recipe not in recipes:
                raise ValueError(
                    f"`{name}` is not for the recipe {self.recipe!r}. Received: {name}={value!r}"
                )
        if self.recipe == "default" and self.weights not in (None, "none"):
            defaults |= FROM_WEIGHTS
        if self.recipe == "default" and self.backbone is not None:
            # What belongs to the network that is not taken.
            defaults |= {"backbone_arguments": {}, "where": "auto"}
        return filled(self, defaults, *CLASS_NAMES)._checked()

    def _checked(self):
        self.check()
        if self.backbone == SMALL_NETWORK and self.weights is not None:
            raise ValueError(
                f"{SMALL_NETWORK} has no weights to load: name a model of keras.applications. "
                f"Received: weights={self.weights!r}"
            )
        given = sorted(SET_BY_THE_RECIPE.intersection(self.backbone_arguments))
        if given and (self.recipe == "paper" or self.backbone == SMALL_NETWORK):
            raise ValueError(
                f"`backbone_arguments` must not hold what the recipe sets: {', '.join(given)}. "
                f"Received: backbone_arguments={self.backbone_arguments!r}"
            )
        if self.recipe == "fine-tuning":
            for name in ("backbone", "weights"):
                if getattr(self, name) is None:
                    raise ValueError(
                        f"The recipe 'fine-tuning' needs `{name}`: a network with random weights "
                        f"has nothing to keep. Received: {name}=None"
                    )
            if self.freeze_epochs > self.epochs:
                raise ValueError(
                    "`freeze_epochs` must be at most `epochs`, which include them. "
                    f"Received: freeze_epochs={self.freeze_epochs}, epochs={self.epochs}"
                )
        if self.recipe != "paper":
            return self
        if self.data is None:
            raise ValueError("The recipe 'paper' needs `data`. Received: data=None")
        if self.backbone not in PAPER_NETWORKS:
            raise ValueError(
                "Unknown network of the CBAM paper. "
                f"{near_names(self.backbone, PAPER_NETWORKS)} Received: backbone={self.backbone!r}"
            )
        return self
