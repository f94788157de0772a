"""What a detector finds in picture files: drawn, and as JSON."""

import json
import os
import pathlib

import numpy as np

from keras_cbam.classification.explain import BATCH_SIZE, as_png, figure_names, refuse_to_lose_files
from keras_cbam.data.image_files import decoding, open_picture, why_unreadable
from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.detection.evaluate import predict_detections
from keras_cbam.detection.figures import plot_detections
from keras_cbam.detection.loading import picture_size
from keras_cbam.errors import DataError, printable
from keras_cbam.visualization import panels

DETECTIONS = "detections.json"


def detect_in_pictures(
    model, paths, output, class_names=None, threshold=0.5, overwrite=False, title=None
):
    """Writes one PNG for each picture, `<name>_detected.png`, and `detections.json` of them all.

    Args:
        model: detector, see `load_detector`.
        paths: list of the paths of JPEG, PNG, BMP or GIF pictures of any size.
        output: path of the folder to write to; other files in it stay.
        class_names: list of strings. Defaults to `None`: classes are called by their number.
        threshold: float, boxes of a lower confidence are not drawn; `detections.json` has them.
            Defaults to `0.5`.
        overwrite: bool, whether files of the same names are replaced. Defaults to `False`.
        title: string, what the model is called in `detections.json`. Defaults to `None`: its name.

    Returns:
        A dict, the contents of `detections.json`: `"model"`, `"class_names"`, `"threshold"`;
        `"pictures"`, a list of dicts with `"picture"`, `"figure"`, `"width"`, `"height"` and
        `"detections"`: dicts with `"class"`, `"class_index"`, `"confidence"` and `"box"`, left,
        top, right and bottom edge in pixels of that picture, the most confident first; and
        `"skipped"`, a list of lines `"path: reason"` on pictures that could not be read.

    Raises:
        ModelError: if the model predicts something else, or numbers that are not finite.
        DataError: if no picture can be read, or a figure would replace one.
        ValueError: if `threshold` is not within [0, 1], or a name for each class is missing.
        FileExistsError: if a file would be replaced.
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.
        OSError: if the files cannot be written.

    Example:

    >>> model, class_names = load_detector("run")
    >>> found = detect_in_pictures(model, ["street.jpg"], "detections", class_names)
    >>> found["pictures"][0]["detections"][0]["class"]
    'Bag'
    """
    panels.figure_class()
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be within [0, 1]. Received: threshold={threshold!r}")
    panels.check_class_names(class_names, model.num_classes)
    size = picture_size(model)
    paths = [os.fspath(path) for path in paths]
    output = pathlib.Path(output)
    figures = [output / name for name in figure_names(paths, "detected")]
    refuse_to_lose_files([*figures, output / DETECTIONS], paths, overwrite)
    entries, skipped, drawn = [], [], []
    for start in range(0, len(paths), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        pictures, failures = _read(paths[part])
        skipped += failures
        if not pictures:
            continue
        found = predict_detections(model, _unlabelled(pictures.values()), size, BATCH_SIZE)
        for (index, picture), detections in zip(pictures.items(), found):
            figure = plot_detections([picture], [detections], class_names, threshold=threshold)
            drawn.append((figures[start + index], as_png(figure)))
            entries.append(
                {
                    "picture": paths[start + index],
                    "figure": drawn[-1][0].name,
                    "width": picture.shape[1],
                    "height": picture.shape[0],
                    "detections": _as_list(detections, class_names),
                }
            )
    if not entries:
        raise DataError(f"None of the pictures can be read: {skipped[0]}.")
    result = {
        "model": title or model.name,
        "class_names": class_names,
        "threshold": threshold,
        "pictures": entries,
        "skipped": skipped,
    }
    # At the end, so that what fails on the way leaves nothing behind.
    output.mkdir(parents=True, exist_ok=True)
    text = (json.dumps(result, indent=2) + "\n").encode()
    for path, content in [*drawn, (output / DETECTIONS, text)]:
        # A link to a file elsewhere is replaced itself.
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    return result


def _read(paths):
    """`{index: picture}` of those that can be read, and lines on those that cannot."""
    pictures, failures = {}, []
    with decoding():
        for index, path in enumerate(paths):
            try:
                pictures[index] = np.asarray(open_picture(path).convert("RGB"))
            except Exception as error:
                # Pillow raises any of a dozen kinds on damaged files.
                failures.append(f"{printable(path)}: {why_unreadable(error)}")
    return pictures, failures


def _unlabelled(pictures):
    pictures = list(pictures)
    empty = [np.zeros(0)] * len(pictures)
    return DetectionSet(
        name="pictures",
        class_names=[],
        pictures=pictures,
        sizes=np.array([picture.shape[:2] for picture in pictures]),
        boxes=[np.zeros((0, 4), "float32")] * len(pictures),
        classes=[each.astype("int32") for each in empty],
        ignored=[each.astype(bool) for each in empty],
        areas=empty,
        image_ids=list(range(len(pictures))),
        skipped={},
    )


def _as_list(detections, class_names):
    order = np.argsort(-detections["confidence"], kind="stable")
    return [
        {
            "class": panels.class_label(index, class_names),
            "class_index": index,
            "confidence": round(float(detections["confidence"][i]), 4),
            "box": [round(float(edge), 2) for edge in detections["boxes"][i]],
        }
        for i in order
        for index in [int(detections["classes"][i])]
    ]
