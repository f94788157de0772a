"""The arguments of a training of a classifier, and what each recipe takes for those not given."""

import dataclasses

from keras_cbam.data.class_names import CLASS_NAMES
from keras_cbam.errors import at_least, near_names, number, one_of
from keras_cbam.training.arguments import RunArguments, argument, count, existing_path

RECIPES = {
    # A network that fits small images and two CPU cores, with attention at the end of each of
    # its five resolutions.
    "default": {
        "backbone": "MobileNet",
        "backbone_arguments": {"alpha": 0.5},
        "where": r"conv_pw_(1|3|5|11|13)_relu",
        "image_size": 32,
        "epochs": 9,
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
SET_BY_THE_PAPER = {
    *("attention", "num_classes", "include_top", "input_shape", "include_preprocessing"),
    *("pooling", "classifier_activation"),
}
SMALLEST_IMAGE = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierArguments(RunArguments):
    """The arguments of `train_classifier`."""

    recipe: str = argument(
        "default",
        "default: short trainings from random or given weights; fine-tuning: of given weights, the "
        "attention first; paper: the ImageNet training of the CBAM paper, of its networks",
        choices=tuple(RECIPES),
        group="network",
    )
    data: str = argument(
        None,
        "a folder with one subfolder of images a class, or with train and val or test or both; an "
        ".npz file; or mnist, fashion_mnist, cifar10, cifar100; by default 7,000 embedded "
        "Fashion-MNIST images",
        metavar="DATA",
        group="data",
        may_change=True,
    )
    backbone: str = argument(
        None,
        "a model of keras.applications; by default MobileNet of width 0.5; recipe paper: "
        f"{', '.join(PAPER_NETWORKS)}",
        metavar="NAME",
        group="network",
    )
    backbone_arguments: dict = argument(  # noqa: RUF009
        None,
        "a further argument of the backbone, alpha=0.5 for example; may be repeated",
        metavar="NAME=VALUE",
        group="network",
    )
    attention: object = argument(
        "cbam", "cbam, se, bam, channel, spatial or none", metavar="NAME", group="network"
    )
    where: object = argument(
        None,
        "the layers that get attention; by default those of find_sites for a named backbone",
        metavar="REGEX",
        group="network",
    )
    weights: str = argument(
        None, "imagenet, none or a weights file", metavar="WEIGHTS", group="network"
    )
    image_size: int = count(
        "side of the square images in pixels",
        at_least(SMALLEST_IMAGE),
        metavar="PIXELS",
        group="data",
    )
    augment: str = argument(
        None,
        "of the training images: flip, left to right at random, which is wrong for digits; crop, "
        "the paper's random parts, resized and flipped; or none",
        choices=("flip", "crop", "none"),
        group="data",
    )
    class_weights: str = argument(
        None,
        "balanced: the loss of an image is divided by how frequent its class is",
        choices=("balanced",),
        group="optimization",
    )
    label_smoothing: float = argument(
        0.0,
        "part of a label that is spread evenly over all classes",
        number(below=1),
        metavar="PART",
        group="optimization",
    )
    weight_decay: float = argument(
        None,
        "decoupled, of kernels; recipe paper: in the gradient of everything",
        number(),
        metavar="DECAY",
        group="optimization",
    )
    freeze_epochs: int = count(
        "recipe fine-tuning: epochs in which only the attention and the head train",
        at_least(0),
        group="optimization",
    )
    decay_epochs: int = count(
        "recipe paper: the rate is divided by ten after every N epochs", group="optimization"
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
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        paths = {
            "data": existing_path(self.data, *CLASS_NAMES),
            "weights": existing_path(self.weights, "imagenet"),
        }
        paths |= {name: None for name in ("attention", "weights") if getattr(self, name) == "none"}
        return dataclasses.replace(self, **missing, **paths)._checked()

    def _checked(self):
        self.check()
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
        if self.recipe == "paper":
            self._check_paper()
        return self

    def _check_paper(self):
        if self.data is None:
            raise ValueError("The recipe 'paper' needs `data`. Received: data=None")
        if self.backbone not in PAPER_NETWORKS:
            raise ValueError(
                "Unknown network of the CBAM paper. "
                f"{near_names(self.backbone, PAPER_NETWORKS)} Received: backbone={self.backbone!r}"
            )
        given = SET_BY_THE_PAPER.intersection(self.backbone_arguments)
        if given:
            raise ValueError(
                "`backbone_arguments` must not hold what the recipe sets: "
                f"{', '.join(sorted(given))}. "
                f"Received: backbone_arguments={self.backbone_arguments!r}"
            )
