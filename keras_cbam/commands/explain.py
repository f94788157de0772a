"""Shows what a saved model sees in images.

Of a classifier, draws where it sees the class of an image (Grad-CAM) and what it attends to: one
PNG for each image, and a page with all of them. Of a detector, draws the boxes that it finds.
"""

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import IMAGES, RUN, add_command
from keras_cbam.commands.printing import print_predictions
from keras_cbam.errors import printable


def add(commands):
    summary = "show what a saved model sees in images"
    add = add_command(commands, "explain", run, show, summary, __doc__).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("paths", nargs="+", metavar="IMAGE", help=IMAGES)
    text = "of a classifier: number of the class of the Grad-CAM maps (default: the predicted one)"
    add("--class", type=int, metavar="N", help=text)
    text = "of a detector: boxes of a lower confidence are not drawn (default: 0.5)"
    add("--threshold", type=float, metavar="CONFIDENCE", help=text)
    text = "the folder to write to (default: %(default)s)"
    add("--output", default="keras_cbam_explanation", metavar="FOLDER", help=text)
    add("--overwrite", action="store_true", help="replace files of the same names there")


def run(options):
    return call_task(options, "paths", "output", "overwrite", "threshold", class_index="class")


def show(options, found):
    print_predictions(found)
    print("\nWritten:", *map(printable, found["written"]), sep="\n  ")
