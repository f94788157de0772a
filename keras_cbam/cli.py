"""The command `keras-cbam`."""

import argparse
import ast
import dataclasses
import json
import sys

from keras_cbam.applications import application_cost
from keras_cbam.training.arguments import PRECISIONS
from keras_cbam.training.artefacts import TrainingError
from keras_cbam.training.data_set import DataError
from keras_cbam.training.train import train_classifier
from keras_cbam.weight_files import WeightsError


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        is_said = action.default in (None, []) or action.const is True
        return action.help if is_said else super()._get_help_string(action)


def _backbone_argument(text):
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, received {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _parser():
    parser = _Parser(prog="keras-cbam", description="CBAM attention for Keras image models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_cost(commands)
    return parser


def _add_train(commands):
    train = commands.add_parser(
        "train",
        help="train an image classifier with attention",
        description="Trains an image classifier with attention, saves it and checks it.",
        formatter_class=_HelpFormatter,
    )
    train.set_defaults(run=_train)
    add = train.add_argument
    add(
        "--data",
        metavar="DATA",
        help="a folder with one subfolder of pictures a class, an .npz file, or mnist, "
        "fashion_mnist, cifar10, cifar100; by default 7,000 embedded Fashion-MNIST pictures",
    )
    add(
        "--backbone",
        metavar="NAME",
        help="a model of keras.applications; by default MobileNet of width 0.5",
    )
    add(
        "--backbone-argument",
        metavar="NAME=VALUE",
        type=_backbone_argument,
        action="append",
        default=[],
        help="a further argument of the backbone, alpha=0.5 for example; may be repeated",
    )
    add("--attention", default="cbam", metavar="NAME", help="cbam, se, channel, spatial or none")
    add(
        "--where",
        metavar="REGEX",
        help="the layers to attend; by default those of find_sites for a named backbone",
    )
    add("--weights", default="none", metavar="WEIGHTS", help="imagenet, none or a weights file")
    add("--image-size", type=int, default=32, metavar="PIXELS", help="side of the pictures")
    add("--epochs", type=int, default=9, metavar="N", help="passes over the training pictures")
    add("--batch-size", type=int, default=128, metavar="N", help="pictures a training step")
    add(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="highest rate; by default 0.15 from random weights, 0.01 from given ones, 0.003 with "
        "--freeze-epochs",
    )
    add(
        "--freeze-epochs",
        type=int,
        default=0,
        metavar="N",
        help="fine-tuning: for the first N epochs only the attention and the head train, then "
        "everything at a lower rate; needs --weights",
    )
    add(
        "--weight-decay",
        type=float,
        metavar="DECAY",
        help="decoupled weight decay of kernels; by default 0 from random weights, 1e-4 from "
        "given ones",
    )
    add("--precision", choices=PRECISIONS, default="float32", help="dtype policy")
    add(
        "--xla",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compile the training step by XLA",
    )
    add(
        "--flip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="flip training pictures left to right at random; not for digits",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of everything random")
    add("--output", default="keras_cbam_run", metavar="DIR", help="folder of the artefacts")
    add("--overwrite", action="store_true", help="replace an earlier run in the output folder")
    add("--strict", action="store_true", help="an unreadable picture is an error, not skipped")


def _add_cost(commands):
    cost = commands.add_parser(
        "cost",
        help="count parameters and multiply-adds with and without attention",
        description="Counts parameters and multiply-adds of a model of keras.applications, with "
        "and without attention.",
        formatter_class=_HelpFormatter,
    )
    cost.set_defaults(run=_cost)
    add = cost.add_argument
    add("name", metavar="NAME", help="a model of keras.applications")
    add("--attention", default="cbam", metavar="NAME", help="cbam, se, channel or spatial")
    add("--where", default="auto", metavar="REGEX", help="the layers to attend")
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures; by default that of the ImageNet weights",
    )
    add("--layers", action="store_true", help="also print the cost of every layer")
    add("--json", action="store_true", help="print JSON, with the cost of every layer")


def _none(name):
    return None if name == "none" else name


def _train(options):
    run = train_classifier(
        data=options.data,
        backbone=options.backbone,
        backbone_arguments=dict(options.backbone_argument) or None,
        attention=_none(options.attention),
        where=options.where,
        weights=_none(options.weights),
        image_size=options.image_size,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        freeze_epochs=options.freeze_epochs,
        weight_decay=options.weight_decay,
        precision=options.precision,
        xla=options.xla,
        flip=options.flip,
        seed=options.seed,
        output=options.output,
        overwrite=options.overwrite,
        strict=options.strict,
    )
    report, output = run.report, run.output
    skipped = report["data"]["skipped"]
    if skipped:
        print(f"Skipped {len(skipped)} unreadable pictures:", *skipped[:10], sep="\n  ")
    print(
        f"\nTest accuracy {report['accuracy']:.4f} on {report['data']['test_pictures']} pictures "
        f"({report['seconds']['training']:.0f} s of training, "
        f"{report['seconds']['total']:.0f} s in all)."
    )
    print("Reloaded in a fresh process, both models predict the same (largest difference):")
    for name, difference in report["largest_difference_after_reload"].items():
        print(f"  {output / name}  {difference:.1e}")
    print("Also written:")
    for name in ("history.csv", "learning_curves.png", "report.json"):
        print(f"  {output / name}")
    size = report["arguments"]["image_size"]
    print(
        "\nUse it:\n"
        "  import keras, keras_cbam\n"
        f"  model = keras.models.load_model({str(output / 'model.keras')!r})\n"
        f"  probabilities = model.predict(pixels)  # (batch, {size}, {size}, 3), 0 to 255"
    )


def _cost(options):
    cost = application_cost(
        options.name, options.attention, options.where, image_size=options.image_size
    )
    if options.json:
        print(json.dumps(cost, indent=2, default=dataclasses.asdict))
        return
    plain, attended = cost["plain"], cost["attended"]
    print(
        f"{cost['model']}, pictures of {cost['image_size']} x {cost['image_size']} pixels, "
        f"{options.attention} at {len(cost['sites'])} sites"
    )
    print(f"{'':14}{'plain':>16}{'attended':>16}{'more':>9}")
    for label, key in (("parameters", "parameters"), ("multiply-adds", "multiply_adds")):
        more = 100 * (attended[key] / plain[key] - 1)
        print(f"{label:14}{plain[key]:>16,}{attended[key]:>16,}{more:>8.2f}%")
    if options.layers:
        print(f"\n{'layer':44}{'output':>24}{'parameters':>14}{'multiply-adds':>16}")
        for row in attended["layers"]:
            shape = str(row.output_shape)
            print(f"{row.name:44}{shape:>24}{row.parameters:>14,}{row.multiply_adds:>16,}")


def main(arguments=None):
    """Runs the command. Returns 0, 1 (data, files), 2 (usage) or 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (DataError, TrainingError, WeightsError) as error:
        code, message = 1, error
    except FileExistsError as error:
        code, message = 2, f"{error} Choose another --output, or pass --overwrite for a run."
    except OSError as error:
        code, message = 1, f"{error.strerror}: {error.filename!r}" if error.filename else error
    except KeyboardInterrupt:
        code, message = 130, "Interrupted; nothing was written."
    except ValueError as error:
        code, message = 2, error
    else:
        return 0
    print(f"keras-cbam: error: {' '.join(str(message).split())}", file=sys.stderr)
    return code
