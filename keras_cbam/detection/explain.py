"""What a detector finds in image files, drawn."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cbam.data.listing import find_images
from keras_cbam.detection.figures import plot_detections
from keras_cbam.detection.loading import load_run
from keras_cbam.detection.predict import found_in_files, image_entry
from keras_cbam.visualization import panels
from keras_cbam.visualization.figure_files import (
    as_png,
    figure_names,
    refuse_to_lose_files,
    write_files,
)

DETECTIONS = "detections.json"


def explain_run(
    run: Any,
    paths: Sequence[str],
    output: str | os.PathLike,
    overwrite: bool = False,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Draws what the detector of a run finds in images, see `detect_in_images`.

    Args:
        run: `SavedRun`, or path of the folder of a run or of a `.keras` file.
        paths: list of strings, see `find_images`.
        output, overwrite, threshold: see `detect_in_images`, as for what is raised.

    Returns:
        As `detect_in_images`, and `"written"`, a list of the paths of the written files.

    Example:

    >>> explain_run("run", ["street.jpg"], "detections")["written"]
    ['detections/street_detected.png', 'detections/detections.json']
    """
    _, model, class_names = load_run(run)
    paths, skipped = find_images(paths)
    found = detect_in_images(model, paths, output, class_names, threshold, overwrite)
    names = [*(one["figure"] for one in found["images"]), DETECTIONS]
    written = [os.path.join(output, name) for name in names]
    return {**found, "skipped": [*skipped, *found["skipped"]], "written": written}


def detect_in_images(
    model: Any,
    paths: Sequence[str],
    output: str | os.PathLike,
    class_names: list[str] | None = None,
    threshold: float = 0.5,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes one PNG for each image, `<name>_detected.png`, and `detections.json` of them all.

    Args:
        model: detector, see `load_detector`.
        paths: list of the paths of image files of any size.
        output: path of the folder to write to; other files in it stay.
        class_names: list of strings. Defaults to `None`: classes are called by their number.
        threshold: float in [0, 1], boxes of a lower confidence are not drawn. Defaults to `0.5`.
        overwrite: bool, whether files of the same names are replaced. Defaults to `False`.

    Returns:
        Dict, the contents of `detections.json`: `"model"`, its name, `"class_names"`,
        `"threshold"`; `"images"`, each with its `"figure"`, and `"skipped"`, see `predict_run`.

    Raises:
        ModelError: if the model predicts something else, or numbers that are not finite.
        DataError: if no image can be read, or a figure would replace one.
        ValueError: if `threshold` is outside its range, or a name for each class is missing.
        FileExistsError, OSError: if a file would be replaced, or cannot be written.
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.

    Example:

    >>> found = detect_in_images(load_detector("run")[0], ["street.jpg"], "detections")
    """
    panels.figure_class()
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be within [0, 1]. Received: threshold={threshold!r}")
    panels.check_class_names(class_names, model.num_classes)
    paths = list(dict.fromkeys(map(os.fspath, paths)))
    output = pathlib.Path(output)
    figures = dict(zip(paths, figure_names(paths, "detected")))
    names = (*figures.values(), DETECTIONS)
    refuse_to_lose_files([output / name for name in names], paths, overwrite)
    entries, skipped, drawn = [], [], {}
    for path, image, found in found_in_files(model, paths, skipped):
        figure = plot_detections([np.asarray(image)], [found], class_names, threshold=threshold)
        drawn[figures[path]] = as_png(figure)
        entries.append({**image_entry(path, image, found, class_names), "figure": figures[path]})
    result = {"model": model.name, "class_names": class_names, "threshold": threshold}
    result |= {"images": entries, "skipped": skipped}
    drawn[DETECTIONS] = (json.dumps(result, indent=2) + "\n").encode()
    # At the end, so that what fails on the way leaves nothing behind.
    write_files({output / name: content for name, content in drawn.items()})
    return result
