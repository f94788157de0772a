"""How good a classifier's predictions are."""

import os
import zipfile

import numpy as np

from keras_cbam.data.imagenet import find_test_files
from keras_cbam.data.streaming import picture_streams
from keras_cbam.errors import ModelError, first_line, positive_integer, quoted
from keras_cbam.files.model_files import load_keras_file

# Most classes of a confusion matrix: that of ImageNet is a million numbers.
LARGEST_MATRIX = 100
# Side of the pictures of a model that takes any size.
IMAGE_SIZE = 224


def classification_report(labels, probabilities, class_names):
    """Accuracy, recall of each class and the confusion matrix.

    Args:
        labels: int array of shape `(pictures,)`.
        probabilities: float array of shape `(pictures, classes)`.
        class_names: list of strings.

    Returns:
        Dict: `"accuracy"`, `"per_class_recall"` (`{name: recall}`, `None` for a class without
        pictures) and, of at most 100 classes, `"confusion_matrix"`, rows the true and columns the
        predicted ones.
    """
    classes = len(class_names)
    predicted = np.argmax(probabilities, axis=-1)
    pictures = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    report = {
        "accuracy": float(np.mean(predicted == labels)),
        "per_class_recall": {
            name: float(right[i] / pictures[i]) if pictures[i] else None
            for i, name in enumerate(class_names)
        },
    }
    if classes <= LARGEST_MATRIX:
        matrix = np.bincount(labels * classes + predicted, minlength=classes**2)
        report["confusion_matrix"] = matrix.reshape(classes, classes).tolist()
    return report


def top_errors(labels, scores):
    """How many in a hundred pictures have their class not among the best one, and the best five.

    Of equal scores that of the first class is the better one, as for `argmax`.

    Args:
        labels: int array of shape `(pictures,)`.
        scores: finite float array of shape `(pictures, classes)`.

    Returns:
        Dict: `"top_1_error"` and `"top_5_error"`, in percent; the latter is `None` for fewer than
        six classes, all of which are among the best five.
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


def load_classifier(path):
    """A model of a `.keras` file, which is not compiled; code in the file is not run.

    That holds after `keras.config.enable_unsafe_deserialization()` too.

    Args:
        path: string or path.

    Returns:
        A `keras.Model`.

    Raises:
        ModelError: if there is no such file, or it cannot be loaded.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise ModelError(f"There is no such model file as {quoted(path)}.")
    if not path.endswith(".keras") or not zipfile.is_zipfile(path):
        raise ModelError(f"The file {quoted(path)} is not a Keras model saved as .keras.")
    try:
        return load_keras_file(path)
    except Exception as error:
        # A damaged archive fails in zipfile, json, h5py or Keras, each with errors of its own.
        raise ModelError(
            f"The Keras model {quoted(path)} cannot be loaded: {first_line(error)}."
        ) from error


def evaluate_classifier(model, folder, batch_size=64, verbose=0):
    """Top-1 and top-5 error of a classifier on a folder of pictures.

    The pictures are the centre crops of ImageNet evaluation, see `evaluation_crop`, at the size of
    the model's input, or at 224 if the model takes any. They are read as they are needed.

    Args:
        model: `keras.Model` from pixels in [0, 255], `(batch, size, size, 3)`, to logits or
            probabilities, `(batch, classes)`; the classes are in the order of the sorted names of
            the subfolders.
        folder: path of a folder with one subfolder of pictures a class, or of one in ImageNet's
            layout, of which `val` (or else `test`) is used.
        batch_size: int. Defaults to `64`.
        verbose: see `keras.Model.predict`. Defaults to `0`.

    Returns:
        Dict: `"top_1_error"` and `"top_5_error"` in percent, see `top_errors`; `"accuracy"`,
        `"pictures"`, `"classes"`, `"image_size"`; and `"skipped"`, a line `"path: reason"` for
        each file that is not named as a picture.

    Raises:
        ValueError: if `batch_size` is not a positive integer.
        ModelError: if the model has other inputs or outputs, another number of classes, or scores
            that are not finite.
        DataError: if the folder cannot be used, or a picture in it cannot be read.

    Example:

    >>> model = keras.models.load_model("run/model.keras")
    >>> evaluate_classifier(model, "imagenet")["top_1_error"]
    """
    positive_integer("batch_size", batch_size)
    size = input_size(model)
    folder = os.fspath(folder)
    files, skipped = find_test_files(folder)
    classes = len(files.class_names)
    if model.output_shape[1] != classes:
        raise ModelError(
            f"The model {model.name!r} must have as many classes as the folder {quoted(folder)}, "
            f"received {model.output_shape[1]} of the model and {classes} of the folder."
        )
    with picture_streams(size) as streams:
        scores = model.predict(streams.evaluation(files, batch_size), verbose=verbose)
    if not np.isfinite(scores).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    return {
        **top_errors(files.labels, scores),
        "accuracy": float(np.mean(np.argmax(scores, axis=-1) == files.labels)),
        "pictures": len(files.labels),
        "classes": classes,
        "image_size": size,
        "skipped": skipped,
    }


def input_size(model):
    """Side of the square pictures that a classifier takes; `ModelError` if it takes others."""
    inputs, outputs = (
        [tensor.shape for tensor in getattr(model, name, None) or []]
        for name in ("inputs", "outputs")
    )
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"The model {model.name!r} must have one input and one output, received "
            f"{len(inputs)} and {len(outputs)}."
        )
    batch, *size, channels = inputs[0] if len(inputs[0]) == 4 else (0, 0)
    if batch is not None or channels != 3 or size[0] != size[1]:
        raise ModelError(
            f"The model {model.name!r} must take any number of square pictures of 3 channels, "
            f"(None, size, size, 3), received the input shape {inputs[0]}."
        )
    if len(outputs[0]) != 2:
        raise ModelError(
            f"The model {model.name!r} must give a score for each class, (None, classes), "
            f"received the output shape {outputs[0]}."
        )
    return size[0] or IMAGE_SIZE
