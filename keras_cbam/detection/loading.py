"""Saved detectors: loaded safely, with their size of pictures and their class names."""

import os
import pathlib

import keras_cv

from keras_cbam.classification.evaluate import load_classifier
from keras_cbam.classification.explain import run_class_names, run_report
from keras_cbam.detection.models.base import Detector
from keras_cbam.errors import ModelError, quoted

_DETECTORS = (Detector, keras_cv.models.RetinaNet, keras_cv.models.YOLOV8Detector)


def load_detector(path):
    """A detector of a `.keras` file, not compiled; code in the file is not run.

    Args:
        path: path of a `.keras` file, or of the folder of a training run.

    Returns:
        The model, and the names of its classes, or `None`: those in the `report.json` beside it.

    Raises:
        ModelError: if there is no such file, it cannot be loaded, or it is no detector of square
            pictures.

    Example:

    >>> model, class_names = load_detector("run")
    """
    path = _model_file(path)
    model = load_classifier(path)
    if not isinstance(model, _DETECTORS):
        raise ModelError(
            f"The model {quoted(os.fspath(path))} must be a detector of `build_detector`, received "
            f"a {type(model).__name__}."
        )
    picture_size(model)
    # Non-maximum suppression takes XLA long to compile, and it makes prediction no faster.
    model.jit_compile = False
    return model, run_class_names(path, model.num_classes)


def run_seed(path):
    """The seed in the report of the run that a detector is of; 0 if there is none.

    With it, the test pictures are those that the detector was not trained on.

    Args:
        path: see `load_detector`.
    """
    seed = run_report(_model_file(path), "arguments", "seed")
    return 0 if seed is None else seed


def _model_file(path):
    path = pathlib.Path(path)
    return path / "model.keras" if path.is_dir() else path


def picture_size(model):
    """Side in pixels of the square pictures that a detector was made for."""
    shape = tuple(model.backbone.input_shape)
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2] or shape[3] != 3:
        raise ModelError(
            f"The model {model.name!r} must take square pictures of a known size and 3 channels, "
            f"received the input shape {shape}."
        )
    return shape[1]


def check_classes(model, class_names, detection_set):
    """Raises ModelError unless a detector's classes are those of the pictures.

    Args:
        model: detector.
        class_names: list of strings, or `None` where they are not known.
        detection_set: `DetectionSet`.
    """
    own = detection_set.class_names
    if model.num_classes != len(own):
        raise ModelError(
            f"The model {model.name!r} must have the {len(own)} classes of {detection_set.name!r}, "
            f"received one of {model.num_classes}."
        )
    for index, (name, expected) in enumerate(zip(class_names or own, own)):
        if name != expected:
            raise ModelError(
                f"The classes of the model {model.name!r} must be those of {detection_set.name!r} "
                f"in their order, received {name!r} as class {index} for {expected!r}."
            )
