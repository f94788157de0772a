"""`keras-cbam explain`: what a saved model sees in pictures."""

import pathlib

from keras_cbam.classification.evaluate import load_classifier
from keras_cbam.classification.explain import PAGE, explain_pictures, run_class_names
from keras_cbam.commands.parser import add_command, print_skipped
from keras_cbam.errors import printable
from keras_cbam.visualization.panels import class_label


def add(commands):
    add = add_command(
        commands,
        "explain",
        run,
        "show what a saved model sees in pictures",
        "Predicts the classes of pictures, and draws where the model sees its class (Grad-CAM) and "
        "what it attends to: one PNG a picture, and a page with all of them.",
    ).add_argument
    add(
        "model",
        metavar="MODEL",
        help="a .keras file that takes pixels in [0, 255], or the folder of a training run",
    )
    add("pictures", nargs="+", metavar="PICTURE", help="JPEG, PNG, BMP or GIF files")
    add(
        "--class",
        dest="class_index",
        type=int,
        metavar="N",
        help="number of the class whose Grad-CAM is drawn; by default the predicted one",
    )
    add("--output", default="keras_cbam_explanation", metavar="DIR", help="folder to write to")
    add("--overwrite", action="store_true", help="replace files of the same names there")


def run(options):
    path = pathlib.Path(options.model)
    if path.is_dir():
        path = path / "model.keras"
    model = load_classifier(path)
    names = run_class_names(path, model.output_shape[-1])
    explained, skipped = explain_pictures(
        model,
        options.pictures,
        options.output,
        class_index=options.class_index,
        class_names=names,
        overwrite=options.overwrite,
        title=f"What {printable(path)} sees",
    )
    print_skipped(skipped, "unreadable pictures")
    shown = [printable(explanation.picture) for explanation in explained]
    width = max(map(len, [*shown, "picture"]))
    print(f"{'picture':{width}}  predicted class and probability, and the next two")
    for picture, explanation in zip(shown, explained):
        best = ", ".join(
            f"{class_label(index, names)} {probability:.3f}"
            for index, probability in explanation.best[:3]
        )
        print(f"{picture:{width}}  {best}")
    print("\nWritten:")
    for explanation in explained:
        print(f"  {explanation.figure}")
    print(f"  {pathlib.Path(options.output) / PAGE}")
