"""The verb `predict`: the likeliest classes of images."""

import os
import typing
from collections.abc import Sequence

import numpy as np

from keras_cbam.classification.evaluate import load_classifier, preprocessing
from keras_cbam.data.image_sources import image_batches
from keras_cbam.data.listing import find_images
from keras_cbam.errors import ModelError, positive_integer
from keras_cbam.serving.agreement import activated, missing_activation
from keras_cbam.training.saved_run import SavedRun
from keras_cbam.visualization.panels import class_label

# Images at once.
BATCH_SIZE = 32


def predict_run(
    run: SavedRun | str | os.PathLike, paths: Sequence[str | os.PathLike], top: int = 5
) -> dict[str, typing.Any]:
    """Predicts the classes of images, which are prepared as in the training of the model.

    Args:
        run: `SavedRun`, or the path of the folder of a run or of a `.keras` file.
        paths: list of paths of images, of folders of images, and of globs, see `find_images`.
        top: int, at most how many classes each image gets. Defaults to `5`.

    Returns:
        Dict: `"images"`, a list of `{"image": path, "predictions": [{"class": name,
        "probability": float}, ...]}`, the likeliest class first; and `"skipped"`, a line
        `"path: reason"` for each image that could not be read. Without names, classes are
        `"class 0"`, `"class 1"` and so on.

    Raises:
        ValueError: if `top` is not a positive integer.
        ModelError: if the model is not a classifier of square images with finite scores.
        DataError: if there is no image, or none can be read.

    Example:

    >>> predict_run("run", ["photos", "more/*.jpg"])["images"][0]["predictions"][0]["class"]
    'cat'
    """
    positive_integer("top", top)
    run, model, size = load_classifier(run)
    paths, skipped = find_images(paths)
    read, scores = [], []
    resize = preprocessing(run.arguments)
    for batch, pixels in image_batches(paths, BATCH_SIZE, skipped, size, resize):
        read += batch
        scores.append(model.predict(pixels, verbose=0))
    scores = np.concatenate(scores).astype("float32")
    if not np.isfinite(scores).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    probabilities = activated(scores, missing_activation(scores))
    images = [
        {"image": path, "predictions": likeliest_classes(row, run.class_names, top)}
        for path, row in zip(read, probabilities)
    ]
    return {"images": images, "skipped": skipped}


def likeliest_classes(probabilities, class_names, top):
    """The likeliest classes of one image, `[{"class": name, "probability": float}, ...]`."""
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {"class": class_label(index, class_names), "probability": float(probabilities[index])}
        for index in best
    ]
