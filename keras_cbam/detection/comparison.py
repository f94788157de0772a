"""How far two predictions of the same images are from each other."""

import numpy as np

from keras_cbam.errors import TrainingError

# What is compared in a prediction, a dict of arrays.
KEYS = ("boxes", "classes", "confidence")
# Of all detections, those that may have no counterpart: where two are equally good, rounding
# decides which one suppresses the other.
LARGEST_UNPAIRED = 0.01


def check_detections(expected, found, allowed, largest_unpaired=LARGEST_UNPAIRED):
    """The largest differences of paired detections, boxes in pixels, and the part `"unpaired"`.

    Pairs are of one class; confidences, and edges by the largest edge, differ by at most `allowed`.
    TrainingError if more than `largest_unpaired` have no counterpart.
    """
    largest = {"confidence": 0.0, "boxes": 0.0}
    total = unpaired = 0
    side = max(np.max(each["boxes"], initial=1) for each in (expected, found))
    for image in range(len(expected["classes"])):
        one, other = (
            {key: values[key][image][values["classes"][image] >= 0] for key in KEYS}
            for values in (expected, found)
        )
        boxes = np.abs(one["boxes"][:, None] - other["boxes"][None]).max(axis=-1, initial=0)
        confidence = np.abs(one["confidence"][:, None] - other["confidence"][None])
        is_same = one["classes"][:, None] == other["classes"][None]
        is_pair = is_same & (boxes <= allowed * side) & (confidence <= allowed)
        for axis in (0, 1):
            has_pair = is_pair.any(axis=axis)
            total += has_pair.size
            unpaired += int((~has_pair).sum())
            for name, values in (("confidence", confidence), ("boxes", boxes)):
                nearest = np.where(is_pair, values, np.inf).min(axis=axis, initial=np.inf)
                largest[name] = max(largest[name], float(nearest[has_pair].max(initial=0)))
    part = unpaired / max(total, 1)
    if part > largest_unpaired:
        raise TrainingError(
            f"{part:.1%} of the detections are others, allowed {largest_unpaired:.0%}"
        )
    return {**largest, "unpaired": part}
