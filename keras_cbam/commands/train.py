"""`keras-cbam train` and `keras-cbam detect`: a model with attention, its run and its test."""

import pathlib

from keras_cbam.classification.arguments import FROM_WEIGHTS, RECIPES, ClassifierArguments
from keras_cbam.commands import TASKS, room
from keras_cbam.commands.parser import add_command, add_training_options, training_arguments
from keras_cbam.commands.printing import print_metrics, print_skipped
from keras_cbam.detection.arguments import DEFAULTS, PAPER, DetectorArguments
from keras_cbam.errors import printable
from keras_cbam.training.run_folder import ARGUMENTS, read_json, resumable

# The arguments of each task, and the function that takes them.
TRAININGS = {
    "classification": (ClassifierArguments, "train_classifier"),
    "detection": (DetectorArguments, "train_detector"),
}
OUTPUT = "keras_cbam_run"
# Of the network that the default recipe takes, and not of one that is named.
_OF_THE_NETWORK = ("backbone_arguments", "where")
_USE = {
    "classification": """import keras, keras_cbam
  model = keras.models.load_model({model!r})
  probabilities = model.predict(pixels)  # (batch, {size}, {size}, 3), 0 to 255""",
    "detection": """from keras_cbam.detection import load_detector
  model, class_names = load_detector({folder!r})
  found = model.predict(pixels)  # (batch, {size}, {size}, 3), 0 to 255""",
}


def add(commands):
    _add(commands, "train", "classification", "an image classifier")
    needs = " Needs pip install keras_cbam[detection]."
    _add(commands, "detect", "detection", "a detector", needs)


def _add(commands, verb, task, model, needs=""):
    summary = f"train {model} with attention"
    description = f"Trains {model} with attention, saves it, measures it and checks it.{needs}"
    parser = add_command(commands, verb, run, show, summary, description)
    parser.set_defaults(task=task)
    add_training_options(parser, TRAININGS[task][0], training_defaults(task))


def training_defaults(task):
    """What the options of a task's trainings default to, `{condition: {name: default}}`."""
    if task == "detection":
        papers = {f"recipe paper, {name}": values for name, values in PAPER.items()}
        return {"default": {**DEFAULTS, "output": OUTPUT}, **papers}
    recipes = {
        "default": {**RECIPES["default"], "output": OUTPUT},
        "with --weights": FROM_WEIGHTS,
        "recipe fine-tuning": RECIPES["fine-tuning"],
        "recipe paper": RECIPES["paper"],
    }
    return {
        name: {key: value for key, value in values.items() if key not in _OF_THE_NETWORK}
        for name, values in recipes.items()
    }


def run(options):
    task = options.task
    given = training_arguments(options, TRAININGS[task][0])
    if "resume" in given:
        told = read_json(pathlib.Path(given["resume"]) / ARGUMENTS).get("task")
        task = told if told in TASKS else task
    else:
        given.setdefault("output", OUTPUT)
    given["verbose"] = 0 if options.json or options.quiet else "auto"
    arguments, function = TRAININGS[task]
    earlier = resumable(given.get("resume"), task)
    try:
        # The training checks them again, once Keras is imported.
        arguments.given(earlier, **given)
    except TypeError as error:
        # A run of the other task is resumed with an option that it has not.
        raise ValueError(error) from error
    trained = getattr(room(task), function)(**given)
    # Of several processes one writes.
    return trained.output and {**trained.report, "output": str(trained.output)}


def show(options, report):
    folder, data = pathlib.Path(report["output"]), report["data"]
    print_skipped(data["skipped"])
    print(f"\nOn {data['test_images']} test images of {data['name']}:")
    print_metrics(report)
    seconds = report["seconds"]
    print(f"\n{seconds['training']:.0f} s of training, {seconds['total']:.0f} s in all.")
    differences = report.get("largest_difference_after_reload", {})
    if differences:
        print("Loaded in a fresh process, the same predictions; largest differences:")
    for name, told in differences.items():
        texts = [f"{what} {difference:.1e}" for what, difference in told.items()]
        print(f"  {printable(folder / name)}  {', '.join(texts)}")
    names = {path.name for path in folder.iterdir()} - {".lock", *differences}
    others = (folder / name for name in sorted(names))
    print("Also written:" if differences else "Written:", *map(printable, others), sep="\n  ")
    told = {"model": str(folder / "model.keras"), "folder": str(folder)}
    use = _USE[report["task"]].format(**told, size=report["arguments"]["image_size"])
    print(f"\nUse it:\n  {use}")
