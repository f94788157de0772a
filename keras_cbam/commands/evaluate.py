"""`keras-cbam evaluate`: top-1 and top-5 error of a saved model."""

import json

from keras_cbam.classification.evaluate import evaluate_classifier, load_classifier
from keras_cbam.commands.parser import add_command, print_errors, print_skipped


def add(commands):
    add = add_command(
        commands,
        "evaluate",
        run,
        "measure the top-1 and top-5 error of a saved model",
        "Measures the top-1 and top-5 error of a model saved as .keras, which takes pixels in "
        "[0, 255], on the centre crops of the pictures of a folder.",
    ).add_argument
    add("model", metavar="MODEL", help="a .keras file")
    add(
        "--data",
        required=True,
        metavar="FOLDER",
        help="a folder with one subfolder of pictures a class, or with train and val (or test), "
        "of which the latter is used",
    )
    add("--batch-size", type=int, default=64, metavar="N", help="pictures at once")
    add("--json", action="store_true", help="print JSON")


def run(options):
    result = evaluate_classifier(
        load_classifier(options.model),
        options.data,
        batch_size=options.batch_size,
        verbose=0 if options.json else "auto",
    )
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print_skipped(result["skipped"], "files")
    print(
        f"{result['pictures']} pictures of {result['classes']} classes, centre crops of "
        f"{result['image_size']} x {result['image_size']} pixels"
    )
    print_errors(result)
