"""Run as a fresh process: loads a run's detector and prints how far its detections are off."""

import json
import pathlib
import sys

import numpy as np

from keras_cbam.detection.loading import load_detector, picture_size
from keras_cbam.errors import TrainingError
from keras_cbam.training.run_folder import allowed_difference, reloaded

KEYS = ("boxes", "classes", "confidence")
# Of all detections, those that may have no counterpart: where two are equally good, rounding
# decides which one suppresses the other.
LARGEST_UNPAIRED = 0.01


def verify_detector(folder, model, sample):
    """Compares the saved detector, loaded in a fresh process, with the one in memory.

    Args:
        folder: `pathlib.Path` of the folder with `model.keras`.
        model: the detector.
        sample: uint8 array `(batch, image_size, image_size, 3)`.

    Returns:
        Dict: see `compare_detections`.

    Raises:
        TrainingError: if it cannot be loaded, or detects something else.
    """
    predictions = model.predict(sample.astype("float32"), verbose=0)
    arrays = {"sample": sample, "allowed": np.array(allowed_difference(model))}
    arrays |= {key: np.asarray(predictions[key]) for key in KEYS}
    result = reloaded("keras_cbam.detection.comparison", folder, arrays)
    if result["unpaired"] > LARGEST_UNPAIRED:
        raise TrainingError(
            "The reloaded model.keras predicts otherwise than the model in memory: of its "
            f"detections {result['unpaired']:.1%} are others, allowed {LARGEST_UNPAIRED:.0%}."
        )
    return result


def compare_detections(expected, found, allowed, image_size):
    """How far two predictions of the same pictures are from each other.

    Detections are a pair if they are of one class, if their confidences differ by at most
    `allowed`, and if their edges do by at most that part of the picture's side.

    Args:
        expected: dict of `"boxes"` `(batch, boxes, 4)`, `"classes"` and `"confidence"`
            `(batch, boxes)`, padded with classes of -1.
        found: the same.
        allowed: float.
        image_size: int, in pixels.

    Returns:
        Dict of floats: the largest difference of pairs, `"confidence"` and, in pixels, `"boxes"`;
        and `"unpaired"`, the part of both predictions' detections that have no counterpart.
    """
    largest = {"confidence": 0.0, "boxes": 0.0}
    total = unpaired = 0
    for picture in range(len(expected["classes"])):
        one, other = (
            {key: values[key][picture][values["classes"][picture] >= 0] for key in KEYS}
            for values in (expected, found)
        )
        boxes = np.abs(one["boxes"][:, None] - other["boxes"][None]).max(axis=-1, initial=0)
        confidence = np.abs(one["confidence"][:, None] - other["confidence"][None])
        is_same = one["classes"][:, None] == other["classes"][None]
        is_pair = is_same & (boxes <= allowed * image_size) & (confidence <= allowed)
        for axis in (0, 1):
            has_pair = is_pair.any(axis=axis)
            total += has_pair.size
            unpaired += int((~has_pair).sum())
            for name, values in (("confidence", confidence), ("boxes", boxes)):
                nearest = np.where(is_pair, values, np.inf).min(axis=axis, initial=np.inf)
                largest[name] = max(largest[name], float(nearest[has_pair].max(initial=0)))
    return {**largest, "unpaired": unpaired / max(total, 1)}


def _main(folder, sample_file):
    with np.load(sample_file) as arrays:
        given = dict(arrays)
    model, _ = load_detector(pathlib.Path(folder) / "model.keras")
    found = model.predict(given["sample"].astype("float32"), verbose=0)
    found = {key: np.asarray(found[key]) for key in KEYS}
    result = compare_detections(given, found, float(given["allowed"]), picture_size(model))
    print(json.dumps(result))


if __name__ == "__main__":
    _main(*sys.argv[1:])
