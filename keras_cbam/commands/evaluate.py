"""`keras-cbam evaluate`: the metrics of a saved model, on the data of its run or on others."""

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import RUN, add_command
from keras_cbam.commands.printing import print_metrics, print_skipped


def add(commands):
    add = add_command(
        commands,
        "evaluate",
        run,
        show,
        "measure a saved model",
        "Measures a classifier or a detector: on the data, the split and the preprocessing of its "
        "run, which gives the numbers of its report again, or on other data with the same classes.",
    ).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("--data", metavar="DATA", help="other data, as for train or detect; needed for a file")
    add("--split", choices=("train", "val", "test"), help="the part of the data (default: test)")
    add("--batch-size", type=int, metavar="N", help="images at once (default: as in the training)")


def run(options):
    return call_task(
        "evaluate",
        options.run_path,
        data=options.data,
        split=options.split,
        batch_size=options.batch_size,
    )


def show(options, found):
    print_skipped(found["skipped"])
    part = f", {found['split']}" if found["split"] else ""
    print(f"On {found['images']} images of {found['data']}{part}:")
    print_metrics(found)
