"""`keras-cbam detect`: detectors with attention are trained, measured and used."""

import argparse
import functools
import json
import pathlib
import warnings

from keras_cbam.commands.parser import add_command, none_or, print_skipped
from keras_cbam.errors import positive_integer, printable
from keras_cbam.training.arguments import PRECISIONS, validate_seed
from keras_cbam.training.run_folder import DETECTION_ARTEFACTS

# Those of `keras_cbam.detection`, which is imported when a command runs: keras_cv takes seconds.
DETECTORS = ("ssd", "stairnet", "faster_rcnn", "retinanet", "yolov8")
_DATA = (
    "scenes, drawn from embedded Fashion-MNIST pictures, or a folder in COCO's layout (annotations "
    "or annotations.json) or VOC's (ImageSets)"
)
_MODEL = "a .keras file of detect train, or the folder of its run"


def add(commands):
    detect = commands.add_parser(
        "detect",
        help="train, measure and use detectors with attention",
        description="Trains, measures and uses detectors with attention. Needs "
        "pip install keras_cbam[detection].",
    )
    commands = detect.add_subparsers(dest="detect_command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)


def _add_train(commands):
    add = add_command(
        commands,
        "train",
        train,
        "train a detector with attention",
        "Trains a detector with attention, saves it, checks it and measures it.",
    ).add_argument
    add("--detector", choices=DETECTORS, default="ssd", help="what to train")
    add("--data", default="scenes", metavar="DATA", help=_DATA)
    add(
        "--backbone",
        default="small",
        metavar="NAME",
        help="small, vgg16, mobilenet or a model of keras.applications",
    )
    add(
        "--attention",
        default="cbam",
        metavar="NAME",
        help="cbam, se, bam, channel, spatial or none: before every classifier of ssd and "
        "stairnet, in the blocks of the backbone of the others",
    )
    add(
        "--weights",
        default="none",
        choices=("imagenet", "none"),
        help="of the backbone; small has none",
    )
    # Left out of the call unless given: `train_detector` has the defaults.
    for name, kind, unit, text in (
        ("--image-size", int, "PIXELS", "side of the pictures"),
        ("--epochs", int, "N", "passes over the training pictures"),
        ("--batch-size", int, "N", "pictures a training step"),
        ("--learning-rate", float, "RATE", "highest rate"),
        ("--train-scenes", int, "N", "scenes to train on"),
        ("--test-scenes", int, "N", "scenes to test on"),
    ):
        add(name, type=kind, metavar=unit, default=argparse.SUPPRESS, help=text)
    add("--precision", choices=PRECISIONS, default="float32", help="dtype policy")
    for name, default, text in (
        ("--xla", False, "compile the training step by XLA"),
        ("--augment", True, "flip, crop and colour training pictures at random"),
    ):
        add(name, action=argparse.BooleanOptionalAction, default=default, help=text)
    add("--seed", type=int, default=0, metavar="N", help="seed of everything random")
    add("--output", default="keras_cbam_run", metavar="DIR", help="folder of the artefacts")
    add("--overwrite", action="store_true", help="replace an earlier run in the output folder")
    add("--json", action="store_true", help="print the report as JSON")


def _add_evaluate(commands):
    add = add_command(
        commands,
        "evaluate",
        evaluate,
        "measure a saved detector",
        "Measures a detector on the test pictures of data: COCO's twelve metrics, VOC 2007's, and "
        "the average precision of each class.",
    ).add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add("--data", default="scenes", metavar="DATA", help=_DATA)
    add("--test-scenes", type=int, default=500, metavar="N", help="scenes to test on")
    add("--batch-size", type=int, default=16, metavar="N", help="pictures at once")
    add(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the scenes, or of the split (default: that of the training)",
    )
    add("--json", action="store_true", help="print JSON")


def _add_predict(commands):
    add = add_command(
        commands,
        "predict",
        predict,
        "find objects in pictures",
        "Finds objects in pictures: one PNG a picture, with boxes, classes and confidences, and "
        "detections.json with all of them, in pixels of the pictures themselves.",
    ).add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add("pictures", nargs="+", metavar="PICTURE", help="JPEG, PNG, BMP or GIF files")
    add(
        "--threshold",
        type=float,
        default=0.5,
        metavar="CONFIDENCE",
        help="boxes of a lower confidence are not drawn",
    )
    add("--output", default="keras_cbam_detections", metavar="DIR", help="folder to write to")
    add("--overwrite", action="store_true", help="replace files of the same names there")
    add("--json", action="store_true", help="print detections.json")


_TRAIN = (
    *("detector", "data", "backbone", "image_size", "epochs", "batch_size", "learning_rate"),
    *("train_scenes", "test_scenes", "precision", "xla", "augment", "seed", "output", "overwrite"),
)


def _quietly(command):
    @functools.wraps(command)
    def run(options):
        with warnings.catch_warnings():
            # keras_cv names RetinaNet's input, and gives it pictures without that name.
            warnings.filterwarnings("ignore", "The structure of `inputs` doesn't match")
            return command(options)

    return run


@_quietly
def train(options):
    from keras_cbam.detection.task import train_detector

    given = {name: getattr(options, name) for name in _TRAIN if hasattr(options, name)}
    run = train_detector(
        attention=none_or(options.attention),
        weights=none_or(options.weights),
        verbose=0 if options.json else "auto",
        **given,
    )
    report = run.report
    if options.json:
        print(json.dumps(report, indent=2))
        return
    for part, skipped in report["data"]["skipped"].items():
        _print_counts(skipped, part)
    print()
    _print_metrics(report)
    print(
        f"\n{report['seconds']['training']:.0f} s of training, "
        f"{report['seconds']['total']:.0f} s in all. Written:"
    )
    for name in DETECTION_ARTEFACTS:
        print(f"  {run.output / name}")
    difference = report["largest_difference_after_reload"]["model.keras"]
    print(
        "Reloaded in a fresh process, the model predicts the same: largest difference of "
        f"confidences {difference['confidence']:.1e},\nof edges {difference['boxes']:.1e} pixels, "
        f"detections without a counterpart {difference['unpaired']:.2%}.\n"
        "\nUse it:\n"
        "  from keras_cbam.detection import load_detector\n"
        f"  model, class_names = load_detector({str(run.output)!r})\n"
        f"  found = model.predict(pixels)  # (batch, {report['image_size']}, "
        f"{report['image_size']}, 3), 0 to 255"
    )


@_quietly
def evaluate(options):
    from keras_cbam.detection.data.load import load_detection_data
    from keras_cbam.detection.evaluate import evaluate_detector
    from keras_cbam.detection.loading import check_classes, load_detector, picture_size, run_seed

    seed = run_seed(options.model) if options.seed is None else options.seed
    validate_seed(seed)
    positive_integer("test_scenes", options.test_scenes)
    model, class_names = load_detector(options.model)
    size = picture_size(model)
    data = load_detection_data(
        options.data, seed, train_scenes=1, test_scenes=options.test_scenes, image_size=size
    )
    check_classes(model, class_names, data.test)
    report = evaluate_detector(model, data.test, size, options.batch_size)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    _print_counts(report["skipped"], "test")
    _print_metrics(report)


@_quietly
def predict(options):
    from keras_cbam.detection.loading import load_detector
    from keras_cbam.detection.predict import DETECTIONS, detect_in_pictures

    model, class_names = load_detector(options.model)
    result = detect_in_pictures(
        model,
        options.pictures,
        options.output,
        class_names,
        threshold=options.threshold,
        overwrite=options.overwrite,
        title=printable(options.model),
    )
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print_skipped(result["skipped"], "unreadable pictures")
    shown = [printable(one["picture"]) for one in result["pictures"]]
    width = max(map(len, [*shown, "picture"]))
    print(f"{'picture':{width}}  found with a confidence of {options.threshold:g} or more")
    for name, one in zip(shown, result["pictures"]):
        found = [
            f"{each['class']} {each['confidence']:.2f}"
            for each in one["detections"]
            if each["confidence"] >= options.threshold
        ]
        print(f"{name:{width}}  {', '.join(found) or 'nothing'}")
    output = pathlib.Path(options.output)
    print("\nWritten:")
    for name in [*(one["figure"] for one in result["pictures"]), DETECTIONS]:
        print(f"  {output / name}")


def _print_counts(skipped, part):
    if skipped:
        counts = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        print(f"Left out or mended in the {part} data: {counts}.")


def _number(value):
    """A metric; -1 stands for what no object was there for."""
    return "-" if value < 0 else f"{value:.3f}"


def _print_metrics(report):
    print(
        f"{report['pictures']} test pictures of {report['image_size']} x {report['image_size']} "
        f"pixels, {report['objects']} objects\n"
    )
    names = (
        ("AP", "AP50", "AP75", "VOC07"),
        ("APs", "APm", "APl"),
        ("ARmax1", "ARmax10", "ARmax100"),
        ("ARs", "ARm", "ARl"),
    )
    for row in names:
        print("  ".join(f"{name:>8} {_number(report[name])}" for name in row))
    width = max(len("class"), *(len(printable(name)) for name in report["per_class"]))
    print(f"\n{'class':{width}} {'AP':>7} {'AP50':>7} {'VOC07':>7}")
    for name, values in report["per_class"].items():
        cells = " ".join(f"{_number(values[key]):>7}" for key in ("AP", "AP50", "VOC07"))
        print(f"{printable(name):{width}} {cells}")
