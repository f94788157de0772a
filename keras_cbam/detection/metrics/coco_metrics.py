"""COCO's metrics of a detector, by faster-coco-eval, which counts as pycocotools does."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.errors import library

Detections = Sequence[dict[str, np.ndarray]]
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
NAMES += ("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl")


def coco_metrics(ground_truth: DetectionSet, detections: Detections) -> dict[str, Any]:
    """COCO's twelve metrics, and the average precision of each class.

    AP is the mean over the classes and over the overlaps .5, .55, ... .95 of boxes; AP50 and AP75
    are at one overlap; APs, APm and APl are over objects of less than 32 x 32, up to 96 x 96, and
    more square pixels. ARmax1, ARmax10 and ARmax100 are the recall with at most so many boxes of an
    image. Of a class in an image the 100 best boxes are taken. What lies in an object of
    `DetectionSet.ignored` counts neither for nor against.

    Args:
        ground_truth: `DetectionSet`.
        detections: list of a dict of arrays for each image: `"boxes"` `(boxes, 4)`, left, top,
            right and bottom edge in its pixels; `"classes"` and `"confidence"` `(boxes,)`.

    Returns:
        Dict of floats: `"AP"`, `"AP50"`, `"AP75"`, `"APs"`, `"APm"`, `"APl"`, `"ARmax1"`,
        `"ARmax10"`, `"ARmax100"`, `"ARs"`, `"ARm"`, `"ARl"`; and `"per_class"`, `{class name:
        {"AP": ..., "AP50": ...}}`. Without objects it is -1, and left out of means.

    Raises:
        ValueError: if there is not a detection dict for each image.

    Example:

    >>> scenes = clothing_scenes(8)
    >>> coco_metrics(scenes, predict_detections(model, scenes, 96))["AP"]

    Source: `COCOeval` of [pycocotools](https://github.com/cocodataset/cocoapi), as
    [faster-coco-eval](https://github.com/MiXaiLL76/faster_coco_eval) computes it.
    """
    return metrics_and_curves(ground_truth, detections)[0]


def precision_recall(ground_truth: DetectionSet, detections: Detections) -> dict[str, np.ndarray]:
    """The precision of each class at the recalls 0, 0.01, ... 1, for an overlap of .5 of boxes.

    It is the best at this or a higher recall, 0 if that is not reached: a curve's mean is AP50.

    Args:
        ground_truth, detections: see `coco_metrics`.

    Returns:
        `{class name: float array (101,)}`, of the classes that have objects.
    """
    return metrics_and_curves(ground_truth, detections)[1]


def metrics_and_curves(
    ground_truth: DetectionSet, detections: Detections
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `coco_metrics` and `precision_recall` return, by one evaluation."""
    check_length(ground_truth, detections)
    coco, names = library("faster_coco_eval", "detection"), ground_truth.class_names
    boxes = [
        {"image_id": i, "category_id": kind, "bbox": box, "area": area, "iscrowd": int(is_ignored)}
        for i, own in enumerate(ground_truth.boxes)
        for box, kind, area, is_ignored in zip(
            with_sides(own).tolist(),
            ground_truth.classes[i].tolist(),
            ground_truth.areas[i].tolist(),
            ground_truth.ignored[i],
        )
    ]
    found = [
        {"image_id": i, "category_id": kind, "bbox": box, "score": score}
        for i, one in enumerate(detections)
        for box, kind, score in zip(
            with_sides(one["boxes"]).tolist(),
            np.asarray(one["classes"]).tolist(),
            np.asarray(one["confidence"], "float64").tolist(),
        )
    ]
    whole = {
        "images": [{"id": i} for i in range(len(ground_truth))],
        "categories": [{"id": i} for i in range(len(names))],
        # An object of id 0 would count as not matched.
        "annotations": [{**each, "id": i} for i, each in enumerate(boxes, 1)],
    }
    truth = coco.COCO(whole)
    # It takes no empty results.
    results = truth.loadRes(found) if found else coco.COCO({**whole, "annotations": []})
    evaluation = coco.COCOeval_faster(truth, results, "bbox")
    evaluation.run()
    # Classes x overlaps x recalls, of objects of any size and 100 detections; -1 without objects.
    precision = np.moveaxis(evaluation.eval["precision"][..., 0, -1], 2, 0)
    metrics: dict[str, Any] = dict(zip(NAMES, map(float, evaluation.stats)))
    metrics["per_class"] = {
        name: {"AP": mean_of_present(own), "AP50": mean_of_present(own[0])}
        for name, own in zip(names, precision)
    }
    curves = {name: own[0] for name, own in zip(names, precision) if (own[0] >= 0).any()}
    return metrics, curves


def check_length(ground_truth: DetectionSet, detections: Detections) -> None:
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"`detections` must have a dict for each of the {len(ground_truth)} images. "
            f"Received: len(detections)={len(detections)}"
        )


def with_sides(boxes: Any) -> np.ndarray:
    """Boxes `(boxes, 4)` as COCO has them: left, top, width and height, in float64."""
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def mean_of_present(values: np.ndarray) -> float:
    """The mean of the values that are not -1, which stands for no objects; -1 if all are."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
