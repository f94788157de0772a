"""`keras-cbam predict`: what a saved model finds in images."""

import csv
import pathlib

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import IMAGES, RUN, add_command
from keras_cbam.commands.printing import print_predictions, print_skipped


def add(commands):
    add = add_command(
        commands,
        "predict",
        run,
        show,
        "tell what a saved model finds in images",
        "Predicts the classes of images, with probabilities, or the objects in them, with "
        "confidences and boxes.",
    ).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("images", nargs="+", metavar="IMAGE", help=IMAGES)
    add("--top", type=int, metavar="N", help="of a classifier: classes an image (default: 5)")
    add("--csv", metavar="FILE", help="also write the predictions to a .csv file")


def run(options):
    target = None if options.csv is None else pathlib.Path(options.csv)
    if target is not None and target.suffix != ".csv":
        # It may be the first image of a pattern.
        raise ValueError(f"The name of the file must end in .csv. Received: --csv {options.csv}")
    if target is not None and not target.parent.is_dir():
        raise ValueError(f"There is no folder {str(target.parent)!r} for the file to write.")
    found = call_task("predict", options.run_path, options.images, top=options.top)
    if target is not None:
        # Names that are not Unicode stay the bytes that they are.
        with open(target, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows(_rows(found["images"]))
    return found


def _rows(images):
    if "detections" in images[0]:
        yield "image", "class", "confidence", "left", "top", "right", "bottom"
    else:
        yield "image", "rank", "class", "probability"
    for one in images:
        for rank, each in enumerate(one.get("predictions", ()), 1):
            yield one["image"], rank, each["class"], each["probability"]
        for each in one.get("detections", ()):
            yield one["image"], each["class"], each["confidence"], *each["box"]


def show(options, found):
    print_skipped(found["skipped"])
    print_predictions(found)
    if options.csv is not None:
        print(f"\nWritten: {options.csv}")
