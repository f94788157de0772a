"""PASCAL VOC's average precisions of a detector: that of 2007, and that of 2010 and later."""

from typing import Any

import numpy as np

from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.detection.metrics import coco_metrics as coco
from keras_cbam.detection.metrics.coco_metrics import Detections
from keras_cbam.errors import library

NAMES = ("VOC07", "VOC10")
# From which intersection by union on an object is found.
OVERLAP = 0.5


def voc_metrics(ground_truth: DetectionSet, detections: Detections) -> dict[str, Any]:
    """VOC's average precisions: at eleven recalls (2007), and the area under the curve (2010).

    Each detection of a class, by falling confidence, is held against the object that it overlaps
    most (intersection by union): it is right if that is at least 0.5 and the object is new, does
    not count if the object is in `DetectionSet.ignored`, and is wrong otherwise. The precision at a
    recall is the best one at this or a higher recall. `"VOC07"` is its mean at the recalls 0, 0.1,
    ... 1, and `"VOC10"` its integral over the recall.

    Args:
        ground_truth, detections: see `coco_metrics`.

    Returns:
        Dict: `"VOC07"` and `"VOC10"`, the means over the classes, and `"per_class"`, `{class name:
        {"VOC07": ..., "VOC10": ...}}`. Without objects it is -1, and left out of means.

    Raises:
        ValueError: if there is not a detection dict for each image.

    Example:

    >>> scenes = clothing_scenes(8)
    >>> voc_metrics(scenes, predict_detections(model, scenes, 96))["VOC07"]

    Source: [The PASCAL VOC Challenge](https://doi.org/10.1007/s11263-009-0275-4), section 4.2, and
    [its development kit of 2010](http://host.robots.ox.ac.uk/pascal/VOC/voc2010/).
    """
    coco.check_length(ground_truth, detections)
    values = np.array(
        [
            _average_precisions(ground_truth, detections, kind)
            for kind in range(len(ground_truth.class_names))
        ]
    )
    rows = [dict(zip(NAMES, row)) for row in values.tolist()]
    means = {name: coco.mean_of_present(column) for name, column in zip(NAMES, values.T)}
    return {**means, "per_class": dict(zip(ground_truth.class_names, rows))}


def _average_precisions(ground_truth, detections, kind):
    """The two average precisions of a class."""
    confidences, is_right, objects = [], [], 0
    for i, found in enumerate(detections):
        is_kind = ground_truth.classes[i] == kind
        ignored = ground_truth.ignored[i][is_kind]
        objects += int((~ignored).sum())
        chosen = np.flatnonzero(np.asarray(found["classes"]) == kind)
        confidence = np.asarray(found["confidence"], "float64")
        chosen = chosen[np.argsort(-confidence[chosen], kind="stable")]
        boxes = np.asarray(found["boxes"]).reshape(-1, 4)[chosen]
        right, counts = _match(boxes, ground_truth.boxes[i][is_kind], ignored)
        confidences.append(confidence[chosen][counts])
        is_right.append(right[counts])
    if not objects:
        return -1.0, -1.0
    order = np.argsort(-np.concatenate(confidences), kind="stable")
    is_right = np.concatenate(is_right)[order]
    right = np.cumsum(is_right)
    precision = right / np.arange(1, len(right) + 1)
    # At each detection, the best precision at its recall or a higher one.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    # In integers, as 0.1 has no exact float.
    eleven = [precision[10 * right >= tenths * objects].max(initial=0) for tenths in range(11)]
    # The recall rises by one object at each right detection.
    return np.mean(eleven), precision[is_right].sum() / objects


def _match(boxes, objects, ignored):
    """Which detections of an image, best first, are right, and which of them count."""
    right, counts = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(boxes) or not len(objects):
        return right, counts
    iou = library("faster_coco_eval.core.mask", "detection").iou
    overlaps = iou(coco.with_sides(boxes), coco.with_sides(objects), [0] * len(objects))
    is_found = np.zeros(len(objects), bool)
    for i, j in enumerate(overlaps.argmax(axis=1)):
        if overlaps[i, j] >= OVERLAP:
            counts[i] = not ignored[j]
            right[i] = not is_found[j] and not ignored[j]
            is_found[j] = True
    return right, counts
