"""Saved detectors: loaded safely, with their size of images and their class names."""

import os
from typing import Any

from keras_cbam.detection.models import build  # noqa: F401  (registers the detectors)
from keras_cbam.detection.models.base import Detector
from keras_cbam.errors import ModelError, library, quoted
from keras_cbam.training.saved_run import SavedRun, find_run


def load_detector(path: str | os.PathLike) -> tuple[Any, list[str] | None]:
    """Loads a trained detector, not compiled; code in the file is not run.

    Args:
        path: path of a `.keras` file, or of the folder of a run.

    Returns:
        The model, and the names of its classes; `None` for a file that is not of a run.

    Raises:
        ModelError: if it is not a trained detector of square images, or cannot be loaded.
        ImportError: if its backbone is of keras-cv, which is not installed; it names the extra.

    Example:

    >>> model, class_names = load_detector("run")
    """
    _, model, class_names = load_run(path)
    return model, class_names


def load_run(run: Any) -> tuple[SavedRun, Any, list[str] | None]:
    """The `SavedRun` of a detector, or of a path, its model, and its class names or `None`."""
    run = run if isinstance(run, SavedRun) else find_run(run)
    if "keras_cv" in run.config():
        # Registers the classes in the file.
        library("keras_cv", "keras-cv")
    model: Any = run.load()
    if not isinstance(model, Detector):
        raise ModelError(
            f"The model {quoted(run.model_file)} must be a detector of `build_detector`, received "
            f"a {type(model).__name__}."
        )
    height, width, channels = model.backbone.input_shape[1:]
    if height != width or channels != 3:
        raise ModelError(
            f"The model {model.name!r} must take square images of 3 channels, received the input "
            f"shape {model.backbone.input_shape}."
        )
    run.check_classes(model.num_classes)
    return run, model, run.class_names
