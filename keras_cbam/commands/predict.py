"""Predicts what is in images.

A classifier finds the class of each, with a probability, a detector objects, with a confidence and
a box.
"""

import csv

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import IMAGES, RUN, add_command, file_to_write
from keras_cbam.commands.printing import print_predictions


def add(commands):
    summary = "tell what a saved model finds in images"
    add = add_command(commands, "predict", run, show, summary, __doc__).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("paths", nargs="+", metavar="IMAGE", help=IMAGES)
    add("--top", type=int, metavar="N", help="of a classifier: classes an image (default: 5)")
    add("--csv", metavar="FILE", help="also write the predictions to a .csv file")


def run(options):
    # With another ending, it may be the first image of a pattern.
    target = options.csv if options.csv is None else file_to_write("--csv", options.csv, ".csv")
    found = call_task(options, "paths", "top")
    if target:
        # Names that are not Unicode stay the bytes that they are.
        with open(target, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows(_rows(found["images"]))
    return found


def _rows(images):
    is_detector = "detections" in images[0]
    names = "class confidence left top right bottom" if is_detector else "rank class probability"
    yield "image", *names.split()
    for one in images:
        for rank, each in enumerate(one.get("predictions", ()), 1):
            yield one["image"], rank, each["class"], each["probability"]
        for each in one.get("detections", ()):
            yield one["image"], each["class"], each["confidence"], *each["box"]


def show(options, found):
    print_predictions(found)
    if options.csv:
        print(f"\nWritten: {options.csv}")
