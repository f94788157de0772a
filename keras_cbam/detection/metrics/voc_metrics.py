"""PASCAL VOC 2007's metric of a detector."""

from typing import Any

import numpy as np

from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.detection.extra import library
from keras_cbam.detection.metrics.coco_metrics import (
    OVERLAP,
    Detections,
    check_length,
    with_sides,
)


def voc_metrics(
    ground_truth: DetectionSet, detections: Detections, overlap: float = OVERLAP
) -> dict[str, Any]:
    """VOC 2007's average precision: the mean of the precision at the recalls 0, 0.1, ... 1.

    Each detection of a class, by falling confidence, is held against the object that it overlaps
    most (intersection by union): it is right if that is at least 0.5 and the object is new, does
    not count if the object is in `DetectionSet.ignored`, and is wrong otherwise.

    Args:
        ground_truth, detections: see `coco_metrics`.
        overlap: float in (0, 1]. Defaults to `0.5`.

    Returns:
        Dict: `"mAP"`, the mean, and `"per_class"`, `{class name: AP}`, -1 without objects.

    Raises:
        ValueError: if there is not a detection dict for each image.

    Example:

    >>> scenes = clothing_scenes(8)
    >>> voc_metrics(scenes, predict_detections(model, scenes, 96))["mAP"]

    Source: [The PASCAL VOC Challenge](https://doi.org/10.1007/s11263-009-0275-4), section 4.2.
    """
    check_length(ground_truth, detections)
    per_class = {
        name: _average_precision(ground_truth, detections, kind, overlap)
        for kind, name in enumerate(ground_truth.class_names)
    }
    present = [value for value in per_class.values() if value >= 0]
    return {"mAP": float(np.mean(present)) if present else -1.0, "per_class": per_class}


def _average_precision(ground_truth, detections, kind, overlap):
    confidences, is_right = [], []
    objects = 0
    for i, found in enumerate(detections):
        is_kind = ground_truth.classes[i] == kind
        ignored = ground_truth.ignored[i][is_kind]
        objects += int((~ignored).sum())
        chosen = np.flatnonzero(np.asarray(found["classes"]) == kind)
        confidence = np.asarray(found["confidence"], "float64")
        chosen = chosen[np.argsort(-confidence[chosen], kind="stable")]
        boxes = np.asarray(found["boxes"]).reshape(-1, 4)[chosen]
        right, counts = _match(boxes, ground_truth.boxes[i][is_kind], ignored, overlap)
        confidences.append(confidence[chosen][counts])
        is_right.append(right[counts])
    if not objects:
        return -1.0
    order = np.argsort(-np.concatenate(confidences), kind="stable")
    right = np.cumsum(np.concatenate(is_right)[order])
    precision = right / np.arange(1, len(right) + 1)
    # In integers, as 0.1 has no exact float.
    return float(
        np.mean([precision[10 * right >= tenths * objects].max(initial=0) for tenths in range(11)])
    )


def _match(boxes, objects, ignored, overlap):
    """Which detections of an image, best first, are right, and which of them count."""
    right, counts = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(boxes) or not len(objects):
        return right, counts
    iou = library("faster_coco_eval.core.mask").iou
    overlaps = iou(with_sides(boxes), with_sides(objects), [0] * len(objects))
    is_found = np.zeros(len(objects), bool)
    for i, j in enumerate(overlaps.argmax(axis=1)):
        if overlaps[i, j] >= overlap:
            counts[i] = not ignored[j]
            right[i] = not is_found[j] and not ignored[j]
            is_found[j] = True
    return right, counts
