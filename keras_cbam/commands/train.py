"""`keras-cbam train`: a classifier with attention, its artefacts and its test."""

import argparse

from keras_cbam.classification.paper import train_paper_network
from keras_cbam.commands.parser import (
    add_command,
    name_and_value,
    none_or,
    print_errors,
    print_skipped,
)
from keras_cbam.training.arguments import PRECISIONS
from keras_cbam.training.devices import DISTRIBUTIONS
from keras_cbam.training.run_folder import ARTEFACTS, MODELS
from keras_cbam.training.trainer import train_classifier

RECIPES = {"default": train_classifier, "paper": train_paper_network}
# Options that only one recipe can honour.
DEFAULT_ONLY = ("where", "weights", "freeze_epochs", "cache")
PAPER_ONLY = ("decay_epochs",)
# What the two recipes call alike.
SHARED = (
    *("backbone", "image_size", "epochs", "batch_size", "learning_rate", "weight_decay"),
    *("precision", "xla", "flip", "seed", "output", "overwrite", "strict"),
    *("resume", "checkpoint_steps", "distribute"),
)


def add(commands):
    add = add_command(
        commands,
        "train",
        run,
        "train an image classifier with attention",
        "Trains an image classifier with attention, saves it and checks it.",
    ).add_argument
    add(
        "--recipe",
        choices=RECIPES,
        default="default",
        help="default: short trainings and fine-tuning; paper: the ImageNet training of the CBAM "
        "paper, of its networks, from a folder in ImageNet's layout",
    )
    add(
        "--data",
        metavar="DATA",
        help="a folder with one subfolder of pictures a class, an .npz file, or mnist, "
        "fashion_mnist, cifar10, cifar100; by default 7,000 embedded Fashion-MNIST pictures. "
        "Recipe paper: a folder with train and val (or test), which is read as it is needed",
    )
    add(
        "--backbone",
        metavar="NAME",
        help="a model of keras.applications; by default MobileNet of width 0.5. Recipe paper: "
        "ResNet18, ResNet34, ResNet50 (the default), ResNet101, WideResNet18, ResNeXt50, "
        "ResNeXt101 or MobileNet of keras_cbam.models",
    )
    add(
        "--backbone-argument",
        metavar="NAME=VALUE",
        type=name_and_value,
        action="append",
        default=[],
        help="a further argument of the backbone, alpha=0.5 for example; may be repeated",
    )
    add(
        "--attention",
        default="cbam",
        metavar="NAME",
        help="cbam, se, bam, channel, spatial or none",
    )
    add(
        "--where",
        metavar="REGEX",
        help="the layers to attend; by default those of find_sites for a named backbone; not for "
        "recipe paper",
    )
    add(
        "--weights",
        metavar="WEIGHTS",
        help="imagenet, none or a weights file; by default none; not for recipe paper",
    )
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures; by default 32; recipe paper: 224",
    )
    add(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the training pictures; by default 9; recipe paper: 90",
    )
    add(
        "--batch-size",
        type=int,
        metavar="N",
        help="pictures a training step; by default 128; recipe paper: 256",
    )
    add(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="highest rate; by default 0.15 from random weights, 0.01 from given ones, 0.003 with "
        "--freeze-epochs; recipe paper: 0.1",
    )
    add(
        "--decay-epochs",
        type=int,
        metavar="N",
        help="recipe paper: the rate is divided by ten after every N epochs; by default 30",
    )
    add(
        "--freeze-epochs",
        type=int,
        metavar="N",
        help="fine-tuning: for the first N epochs only the attention and the head train, then "
        "everything at a lower rate; by default 0; needs --weights; not for recipe paper",
    )
    add(
        "--weight-decay",
        type=float,
        metavar="DECAY",
        help="decoupled weight decay of kernels; by default 0 from random weights, 1e-4 from "
        "given ones. Recipe paper: in the gradient of everything, 1e-4",
    )
    add("--precision", choices=PRECISIONS, default="float32", help="dtype policy")
    for name, default, text in (
        ("--xla", False, "compile the training step by XLA"),
        ("--flip", True, "flip training pictures left to right at random; not for digits"),
    ):
        add(name, action=argparse.BooleanOptionalAction, default=default, help=text)
    add("--seed", type=int, default=0, metavar="N", help="seed of everything random")
    add("--output", default="keras_cbam_run", metavar="DIR", help="folder of the artefacts")
    add(
        "--overwrite",
        action="store_true",
        help="replace an earlier run in the output folder, and begin an unfinished one anew",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with an unfinished run from its last checkpoint; needs the same options",
    )
    add(
        "--checkpoint-steps",
        type=int,
        metavar="N",
        help="write a checkpoint after every N steps too, not only after every epoch",
    )
    add(
        "--distribute",
        choices=("none", *DISTRIBUTIONS),
        default="none",
        help="share each batch among all devices: mirrored (TensorFlow, one machine) or "
        "data_parallel (JAX, one machine or several)",
    )
    add(
        "--cache",
        metavar="DIR",
        help="folder in which the decoded pictures of a picture folder are kept instead of in "
        "memory; not for recipe paper",
    )
    add(
        "--strict",
        action="store_true",
        help="what is not a readable picture is an error, not skipped; recipe paper: only files "
        "that are not named as pictures are skipped",
    )


def run(options):
    is_paper = options.recipe == "paper"
    for name in DEFAULT_ONLY if is_paper else PAPER_ONLY:
        value = getattr(options, name)
        if value is not None:
            raise ValueError(
                f"`--{name.replace('_', '-')}` is not for the recipe {options.recipe!r}. "
                f"Received: {name}={value!r}"
            )
    names = (*SHARED, *(PAPER_ONLY if is_paper else DEFAULT_ONLY))
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name in {"weights", "distribute"}.intersection(given):
        given[name] = none_or(given[name])
    training = RECIPES[options.recipe](
        data=options.data,
        attention=none_or(options.attention),
        backbone_arguments=dict(options.backbone_argument) or None,
        **given,
    )
    # Of several processes one writes.
    if training.output is not None:
        _print(training.report, training.output)


def _print(report, output):
    print_skipped(report["data"]["skipped"], "unreadable pictures")
    print(
        f"\nTest accuracy {report['accuracy']:.4f} on {report['data']['test_pictures']} pictures "
        f"({report['seconds']['training']:.0f} s of training, "
        f"{report['seconds']['total']:.0f} s in all)."
    )
    if "top_1_error" in report:
        print_errors(report)
    print("Reloaded in a fresh process, both models predict the same (largest difference):")
    for name, difference in report["largest_difference_after_reload"].items():
        print(f"  {output / name}  {difference:.1e}")
    print("Also written:")
    for name in ARTEFACTS:
        if name not in MODELS and (output / name).exists():
            print(f"  {output / name}")
    size = report["arguments"]["image_size"]
    print(
        "\nUse it:\n"
        "  import keras, keras_cbam\n"
        f"  model = keras.models.load_model({str(output / 'model.keras')!r})\n"
        f"  probabilities = model.predict(pixels)  # (batch, {size}, {size}, 3), 0 to 255"
    )
