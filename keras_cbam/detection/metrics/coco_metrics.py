"""COCO's metrics of a detector, by pycocotools."""

import contextlib
import io
import typing

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
NAMES += ("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl")
# Of the curves of precision and recall.
OVERLAP = 0.5


def coco_metrics(ground_truth: typing.Any, detections: typing.Any) -> dict[str, typing.Any]:
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

    Source: `COCOeval` of [pycocotools](https://github.com/cocodataset/cocoapi).
    """
    # keras_cv's `PyCOCOCallback` leaves out images without detections, and class 0.
    evaluation = _evaluated(ground_truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    precision = _precision(evaluation)
    metrics = dict(zip(NAMES, map(float, evaluation.stats)))
    metrics["per_class"] = {
        name: {"AP": _mean(precision[:, :, i]), "AP50": _mean(precision[0, :, i])}
        for i, name in enumerate(ground_truth.class_names)
    }
    return metrics


def precision_recall(ground_truth: typing.Any, detections: typing.Any) -> dict[str, typing.Any]:
    """The precision of each class at the recalls 0, 0.01, ... 1, for an overlap of .5 of boxes.

    It is the best at this or a higher recall, 0 if that is not reached: a curve's mean is AP50.

    Args:
        ground_truth, detections: see `coco_metrics`.

    Returns:
        `{class name: float array (101,)}`, of the classes that have objects.
    """
    precision = _precision(_evaluated(ground_truth, detections, overlaps=[OVERLAP]))[0]
    return {
        name: precision[:, i]
        for i, name in enumerate(ground_truth.class_names)
        if (precision[:, i] >= 0).any()
    }


def _precision(evaluation):
    """Overlaps x recalls x classes, of objects of any size and 100 detections."""
    return evaluation.eval["precision"][..., 0, -1]


def _evaluated(ground_truth, detections, overlaps=None):
    check_length(ground_truth, detections)
    annotations = [
        {"image_id": i, "category_id": kind, "bbox": box, "area": area, "iscrowd": is_ignored}
        for i in range(len(ground_truth))
        for box, kind, area, is_ignored in zip(
            with_sides(ground_truth.boxes[i]).tolist(),
            ground_truth.classes[i].tolist(),
            ground_truth.areas[i].tolist(),
            ground_truth.ignored[i].astype(int).tolist(),
        )
    ]
    results = [np.zeros((0, 7))]
    for i, one in enumerate(detections):
        images = np.full(len(one["classes"]), i)
        columns = [images, with_sides(one["boxes"]), one["confidence"], one["classes"]]
        results.append(np.column_stack(columns))
    results = np.concatenate(results)
    # pycocotools reports by printing.
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(ground_truth, annotations)
        # It takes no empty results.
        found = truth.loadRes(results) if len(results) else _index(ground_truth, [])
        evaluation = COCOeval(truth, found, "bbox")
        if overlaps is not None:
            evaluation.params.iouThrs = np.array(overlaps)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def check_length(ground_truth, detections):
    if len(detections) != len(ground_truth):
        raise ValueError(
            f"`detections` must have a dict for each of the {len(ground_truth)} images. "
            f"Received: len(detections)={len(detections)}"
        )


def with_sides(boxes):
    """Boxes `(boxes, 4)` as COCO has them: left, top, width and height, in float64."""
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _index(ground_truth, annotations):
    coco = COCO()
    coco.dataset = {
        # pycocotools 2.0.9 needs it.
        "info": {},
        "images": [{"id": i} for i in range(len(ground_truth))],
        "categories": [{"id": i} for i in range(len(ground_truth.class_names))],
        # An object of id 0 would count as not matched.
        "annotations": [{**each, "id": i} for i, each in enumerate(annotations, 1)],
    }
    coco.createIndex()
    return coco


def _mean(precision):
    precision = precision[precision > -1]
    return float(precision.mean()) if precision.size else -1.0
