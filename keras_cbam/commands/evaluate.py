"""Measures a saved classifier or detector.

It is measured on the data, the split and the preprocessing of its run, which gives the numbers of
its report again, or on other data with the same classes.
"""

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import RUN, add_command
from keras_cbam.commands.printing import print_metrics


def add(commands):
    summary = "measure a saved model"
    add = add_command(commands, "evaluate", run, show, summary, __doc__).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("--data", metavar="DATA", help="other data, as for train or detect; needed for a file")
    add("--split", choices=("train", "val", "test"), help="the part of the data (default: test)")
    add("--batch-size", type=int, metavar="N", help="images at once (default: as in the training)")


def run(options):
    return call_task(options, "data", "split", "batch_size")


def show(options, found):
    part = f", {found['split']}" if found["split"] else ""
    print(f"On {found['images']} images of {found['data']}{part}:")
    print_metrics(found)
