"""Saved detectors: loaded safely, with their size of images and their class names."""

import os
import zipfile
from typing import Any

from keras_cbam.detection.extra import library
from keras_cbam.detection.models import build  # noqa: F401  (registers the detectors)
from keras_cbam.detection.models.base import Detector
from keras_cbam.detection.models.keras_cv_detectors import keras_cv_losses
from keras_cbam.errors import ModelError, quoted
from keras_cbam.training.saved_run import SavedRun, find_run


def load_detector(path: str | os.PathLike) -> tuple[Any, list[str] | None]:
    """Loads a trained detector, not compiled; code in the file is not run.

    Args:
        path: path of a `.keras` file, or of the folder of a run.

    Returns:
        The model, and the names of its classes; `None` for a file that is not of a run.

    Raises:
        ModelError: if it is not a trained detector of square images, or cannot be loaded.

    Example:

    >>> model, class_names = load_detector("run")
    """
    _, model, class_names = load_run(path)
    return model, class_names


def load_run(run: Any) -> tuple[SavedRun, Any, list[str] | None]:
    """The `SavedRun` of a detector, or of a path, its model, and its class names or `None`."""
    run = run if isinstance(run, SavedRun) else find_run(run)
    _import_keras_cv(run.model_file)
    model: Any = run.load()
    if not isinstance(model, Detector) and keras_cv_losses(model) is None:
        raise ModelError(
            f"The model {quoted(os.fspath(run.model_file))} must be a detector of "
            f"`build_detector`, received a {type(model).__name__}."
        )
    input_size(model)
    # Non-maximum suppression takes XLA long to compile, and it makes prediction no faster.
    model.jit_compile = False
    names = run.class_names
    has_names = names is not None and len(names) == model.num_classes
    return run, model, names if has_names else None


def _import_keras_cv(model_file):
    """Registers the classes of keras-cv where a file has them: detectors, or backbones of old."""
    with zipfile.ZipFile(model_file) as archive:
        has_them = "config.json" in archive.namelist() and b"keras_cv" in archive.read(
            "config.json"
        )
    if has_them:
        try:
            library("keras_cv", "keras-cv")
        except ImportError as error:
            raise ModelError(
                f"The model {quoted(os.fspath(model_file))} has parts of keras-cv: install that by "
                "`pip install keras_cbam[keras-cv]` to load it."
            ) from error


def input_size(model: Any) -> int:
    """Side in pixels of the square images that a detector was made for."""
    shape = tuple(model.backbone.input_shape)
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2] or shape[3] != 3:
        raise ModelError(
            f"The model {model.name!r} must take square images of a known size and 3 channels, "
            f"received the input shape {shape}."
        )
    return shape[1]
