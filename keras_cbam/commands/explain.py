"""Shows what a saved model sees in images.

Of a classifier, draws where it sees the class of an image (Grad-CAM) and what it attends to: one
PNG for each image, and a page with all of them. Of a detector, draws the boxes that it finds.
"""

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import IMAGES, RUN, add_command
from keras_cbam.commands.printing import print_predictions, print_skipped
from keras_cbam.errors import printable


def add(commands):
    summary = "show what a saved model sees in images"
    add = add_command(commands, "explain", run, show, summary, __doc__).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("paths", nargs="+", metavar="IMAGE", help=IMAGES)
    add(
        "--class",
        dest="class_index",
        type=int,
        metavar="N",
        help="of a classifier: number of the class whose Grad-CAM is drawn (default: the predicted "
        "one)",
    )
    add(
        "--threshold",
        type=float,
        metavar="CONFIDENCE",
        help="of a detector: boxes of a lower confidence are not drawn (default: 0.5)",
    )
    add(
        "--output",
        default="keras_cbam_explanation",
        metavar="FOLDER",
        help="the folder to write to (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace files of the same names there")


def run(options):
    return call_task(options, "paths", "output", "overwrite", "class_index", "threshold")


def show(options, found):
    print_skipped(found["skipped"])
    print_predictions(found)
    print("\nWritten:", *map(printable, found["written"]), sep="\n  ")
