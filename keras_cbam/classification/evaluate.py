"""How good a classifier's predictions are, and the verb `evaluate`."""

import os
import typing
from collections.abc import Sequence

import numpy as np

from keras_cbam.classification.arguments import ClassifierArguments
from keras_cbam.data.batches import evaluation_batches, reading
from keras_cbam.data.labelled_images import KINDS
from keras_cbam.data.load import load_data, load_part
from keras_cbam.errors import ModelError, one_of, positive_integer, quoted
from keras_cbam.training.saved_run import SavedRun, find_run

# Most classes of a confusion matrix: that of ImageNet is a million numbers.
LARGEST_MATRIX = 100
# Side of the images of a model that takes any size.
IMAGE_SIZE = 224
# Images at once, of a model without a run.
BATCH_SIZE = 64


def classification_report(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, typing.Any]:
    """Computes accuracy, the recall of each class and the confusion matrix.

    Args:
        labels: int array of shape `(images,)`.
        probabilities: float array of shape `(images, classes)`.
        class_names: list of strings.

    Returns:
        Dict: `"accuracy"`; `"per_class_recall"`, `{name: recall}`, `None` for a class without
        images; and, of at most 100 classes, `"confusion_matrix"`, rows the true and columns the
        predicted ones.

    Example:

    >>> classification_report(np.array([0, 1]), np.eye(2), ["cat", "dog"])["accuracy"]
    1.0
    """
    classes = len(class_names)
    predicted = np.argmax(probabilities, axis=-1)
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    recalls = [float(right[i] / images[i]) if images[i] else None for i in range(classes)]
    report = {
        "accuracy": float(np.mean(predicted == labels)),
        "per_class_recall": dict(zip(class_names, recalls)),
    }
    if classes <= LARGEST_MATRIX:
        matrix = np.bincount(labels * classes + predicted, minlength=classes**2)
        report["confusion_matrix"] = matrix.reshape(classes, classes).tolist()
    return report


def top_errors(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """Computes how many in a hundred images do not have their class among the best one and five.

    Of equal scores that of the first class is the better one, as for `argmax`.

    Args:
        labels: int array of shape `(images,)`.
        scores: finite float array of shape `(images, classes)`.

    Returns:
        Dict: `"top_1_error"` and `"top_5_error"`, in percent; the latter is `None` for fewer than
        six classes.

    Example:

    >>> top_errors(np.array([0, 1]), np.eye(2))["top_1_error"]
    0.0
    """
    classes = scores.shape[1]
    labels = np.asarray(labels)[:, None]
    own = np.take_along_axis(scores, labels, axis=1)
    is_better = (scores > own) | ((scores == own) & (np.arange(classes) < labels))
    rank = is_better.sum(axis=1)
    return {
        "top_1_error": 100 * float(np.mean(rank >= 1)),
        "top_5_error": 100 * float(np.mean(rank >= 5)) if classes > 5 else None,
    }


def measure(model, part, class_names, batch_size):
    """The metrics of a classifier on the readable of `LabelledImages`, and its probabilities."""
    probabilities = model.predict(evaluation_batches(part, batch_size), verbose=0)
    if not np.isfinite(probabilities).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    # What stands in for an image that cannot be read is not of it.
    failures = sorted(part.images.failures)
    labels, probabilities = np.delete(part.labels, failures), np.delete(probabilities, failures, 0)
    report = classification_report(labels, probabilities, class_names)
    return {**top_errors(labels, probabilities), **report}, probabilities


def evaluate_run(
    run: SavedRun | str | os.PathLike,
    data: str | os.PathLike | None = None,
    split: str | None = None,
    batch_size: int | None = None,
) -> dict[str, typing.Any]:
    """Measures a saved classifier on images that are prepared as in its training.

    Args:
        run: `SavedRun`, or the path of the folder of a run or of a `.keras` file.
        data: path of other images, see `load_part`: their classes are matched with those of the
            run by name, and some may be missing. Defaults to `None`: the data of the run, which
            gives the numbers of its `report.json` again.
        split: `"test"`, `"validation"` (or `"val"`) or `"train"`. Defaults to `None`: the test part
            of the run, and of other data what `load_part` takes.
        batch_size: int. Defaults to `None`: that of the run, or 64.

    Returns:
        Dict: the metrics of `classification_report` and `top_errors`; `"images"`, how many were
        measured; `"data"`, the name of the data; `"split"`; and `"skipped"`, a line
        `"path: reason"` for each image that could not be read.

    Raises:
        ValueError: if an argument is outside its range, or a model without a run is given no data.
        ModelError: if the model is not a classifier of square images with the classes of the data.
        DataError: if the data cannot be used, or have a class that the model does not know.

    Example:

    >>> evaluate_run("run", data="other_images")["accuracy"]
    """
    if batch_size is not None:
        positive_integer("batch_size", batch_size)
    run, model, size = load_classifier(run)
    if data is None or _is_own(run, data):
        loaded, split = own_data(run), {None: "test", "val": "validation"}.get(split, split)
        one_of(*KINDS, "val")("split", split)
        part, class_names = getattr(loaded, str(split)), loaded.class_names
        name, skipped = loaded.name, loaded.skipped
    else:
        part, class_names, name, skipped = load_part(
            data, size, run.class_names, split, preprocessing(run.arguments)
        )
    if len(class_names) != model.output_shape[-1]:
        raise ModelError(
            f"The model {quoted(run.model_file)} must have as many classes as the data "
            f"{quoted(name)}, received {model.output_shape[-1]} of the model and "
            f"{len(class_names)} of the data."
        )
    batch_size = batch_size or run.arguments.get("batch_size", BATCH_SIZE)
    with reading(part.images):
        metrics, probabilities = measure(model, part, class_names, batch_size)
    return {
        **metrics,
        "images": len(probabilities),
        "data": name,
        "split": split,
        "skipped": [*skipped, *part.images.failure_lines()],
    }


def _is_own(run, data):
    """Whether these are the data of the run: of one folder, its training images are no test."""
    own = run.arguments.get("data")
    if own is None or not (os.path.exists(own) and os.path.exists(data)):
        return data == own
    return os.path.samefile(data, own)


def load_classifier(run):
    """Loads a `SavedRun`, or that of a path: returns it, the model and the side of its images."""
    run = run if isinstance(run, SavedRun) else find_run(run)
    if run.task not in (None, "classification"):
        raise ModelError(f"{quoted(run.model_file)} must be a classifier, received a {run.task}.")
    model = run.load()
    size = input_size(model)
    run.check_classes(model.output_shape[-1])
    return run, model, size


def preprocessing(arguments):
    """How images are brought to one size, by the dict of a run; as for ImageNet without a run."""
    return "center_crop" if arguments.get("recipe") in (None, "paper") else "square"


def load_images(arguments):
    """The `ImageData` of `ClassifierArguments`."""
    size, seed, strict = arguments.image_size, arguments.seed, arguments.strict
    return load_data(arguments.data, size, seed, strict, resize=preprocessing(vars(arguments)))


def own_data(run):
    """The `ImageData` of a `SavedRun`; DataError if it cannot be used any more, or has changed."""
    return run.own_data(lambda: load_images(run.complete(ClassifierArguments)))


def input_size(model):
    """The side of the square images that a classifier takes; `ModelError` if it takes others."""
    names = ("inputs", "outputs")
    inputs, outputs = ([one.shape for one in getattr(model, name, None) or []] for name in names)
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"The model {model.name!r} must have one input and one output, received "
            f"{len(inputs)} and {len(outputs)}."
        )
    batch, *size, channels = inputs[0] if len(inputs[0]) == 4 else (0, 0)
    if batch is not None or channels != 3 or size[0] != size[1]:
        raise ModelError(
            f"The model {model.name!r} must take any number of square images of 3 channels, "
            f"(None, size, size, 3), received the input shape {inputs[0]}."
        )
    if len(outputs[0]) != 2:
        raise ModelError(
            f"The model {model.name!r} must give a score for each class, (None, classes), "
            f"received the output shape {outputs[0]}."
        )
    return size[0] or IMAGE_SIZE
