"""The verb `explain`: what a detector finds in image files, drawn."""

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
from keras_cbam.errors import require
from keras_cbam.visualization import figure_files, panels

DETECTIONS = "detections.json"


def explain_run(
    run: Any,
    paths: Sequence[str],
    output: str | os.PathLike,
    overwrite: bool = False,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Writes one PNG for each image, `<name>_detected.png`, and `detections.json` of them all.

    Args:
        run: `SavedRun`, or path of the folder of a run or of a `.keras` file.
        paths: list of strings, see `find_images`.
        output: path of the folder to write to; other files in it stay.
        overwrite: bool, whether files of the same names are replaced. Defaults to `False`.
        threshold: float in [0, 1], boxes of a lower confidence are not drawn. Defaults to `0.5`.

    Returns:
        Dict, the contents of `detections.json`: `"model"`, its name, `"class_names"`,
        `"threshold"`; `"images"`, each with its `"figure"`, and `"skipped"`, see `predict_run`; and
        `"written"`, a list of the paths of the written files.

    Raises:
        ModelError: if it is not a trained detector, or predicts numbers that are not finite.
        DataError: if no image can be read, or a figure would replace one.
        ValueError: if `threshold` is outside its range.
        FileExistsError, OSError: if a file would be replaced, or cannot be written.
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.

    Example:

    >>> explain_run("run", ["street.jpg"], "detections")["written"]
    ['detections/street_detected.png', 'detections/detections.json']
    """
    panels.figure_class()
    require(0 <= threshold <= 1, "`threshold` must be within [0, 1].", f"threshold={threshold!r}")
    _, model, class_names = load_run(run)
    paths, skipped = find_images(paths)
    output = pathlib.Path(output)
    figures = dict(zip(paths, figure_files.figure_names(paths, "detected")))
    written = [output / name for name in (*figures.values(), DETECTIONS)]
    figure_files.refuse_to_lose_files(written, paths, overwrite)
    entries, files = [], {}
    for path, image, found in found_in_files(model, paths, skipped):
        figure = plot_detections([np.asarray(image)], [found], class_names, threshold=threshold)
        files[output / figures[path]] = figure_files.as_png(figure)
        entries.append({**image_entry(path, image, found, class_names), "figure": figures[path]})
    result = {"model": model.name, "class_names": class_names, "threshold": threshold}
    result |= {"images": entries, "skipped": skipped}
    files[output / DETECTIONS] = (json.dumps(result, indent=2) + "\n").encode()
    # At the end, so that what fails on the way leaves nothing behind.
    figure_files.write_files(files)
    return {**result, "written": list(map(str, files))}
