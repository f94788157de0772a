"""Non-maximum suppression within classes, or within the levels of a pyramid, on any backend."""

import math
from typing import Any

import keras

# Keras' functions have no types of their own.
ops: Any = keras.ops

# Boxes of a class that suppression starts from, as in the code of SSD's authors and torchvision.
CANDIDATES = 400


def suppress(boxes: Any, is_candidate: Any, iou_threshold: float, most: int) -> Any:
    """Which boxes of each row greedy suppression keeps: a bool tensor `(..., boxes)`.

    The first box is kept, and those that overlap it by more than the IoU threshold are not; then
    the first of the others, and so on, in all rows at the same time.

    Args:
        boxes: float32 tensor `(..., boxes, 4)`, "xyxy", the most confident one first.
        is_candidate: bool tensor `(..., boxes)`, false where a box is not taken at all.
        iou_threshold: float.
        most: int, boxes that are kept of a row at most.
    """
    count = boxes.shape[-2]
    index = ops.arange(count, dtype="int32")

    def is_any_left(waiting, *_):
        return ops.any(waiting)

    def keep_next(waiting, kept, edges):
        first = ops.min(ops.where(waiting, index, count), axis=-1, keepdims=True)
        is_first = index == first
        box = ops.sum(ops.where(is_first, edges, 0.0), axis=-1, keepdims=True)
        sides = ops.minimum(edges[2:], box[2:]) - ops.maximum(edges[:2], box[:2])
        shared = ops.prod(ops.maximum(sides, 0.0), axis=0)
        areas = (ops.prod(each[2:] - each[:2], axis=0) for each in (edges, box))
        is_apart = shared <= iou_threshold * (sum(areas) - shared)
        # Not `&` and `|`: LiteRT has the logical operations only.
        waiting = ops.logical_and(waiting, ops.logical_and(is_apart, index != first))
        # Calibrating LiteRT crashes on what a loop does not change: the other boxes get no area.
        return waiting, ops.logical_or(kept, is_first), ops.where(waiting, edges, 0.0)

    # Of edges apart, a pass takes half the time.
    loop = (is_candidate, ops.zeros_like(is_candidate), ops.moveaxis(boxes, -1, 0))
    return ops.while_loop(is_any_left, keep_next, loop, maximum_iterations=most)[1]


def best_of_rows(boxes: Any, scores: Any, count: int) -> tuple[Any, Any, Any]:
    """The boxes of the best scores of all rows of an image, the scores, and the rows they are in.

    Args:
        boxes, scores: tensors `(batch, rows, boxes, 4)` and `(batch, rows, boxes)`.
        count: int. Where there are fewer boxes, scores are padded with minus infinity.
    """
    rows, columns = scores.shape[1:]
    missing = max(0, count - rows * columns)
    scores, index = ops.top_k(ops.reshape(scores, (-1, rows * columns)), count - missing)
    index = ops.cast(index, "int32")
    boxes = ops.reshape(boxes, (-1, rows * columns, 4))
    boxes = ops.take_along_axis(boxes, index[..., None], axis=1)
    padding = [[0, 0], [0, missing]]
    return (
        ops.pad(boxes, [*padding, [0, 0]]),
        ops.pad(scores, padding, constant_values=-math.inf),
        ops.pad(index // columns, padding),
    )


def suppressed_in_classes(
    boxes: Any,
    probabilities: Any,
    iou_threshold: float = 0.45,
    confidence_threshold: float = 0.01,
    max_detections: int = 200,
) -> dict[str, Any]:
    """The detections of all detectors: the best boxes of which no two of a class overlap too much.

    Args:
        boxes: tensor `(batch, boxes, 4)`, or `(batch, boxes, classes, 4)` of each class its own.
        probabilities: tensor `(batch, boxes, classes)`.

    Returns:
        Dict, padded with -1, see `Detector.decode_predictions`.
    """
    total, classes = probabilities.shape[1:]
    probabilities = ops.transpose(ops.cast(probabilities, "float32"), (0, 2, 1))
    candidates = min(CANDIDATES, total)
    confidence, index = ops.top_k(probabilities, candidates)
    index = ops.cast(index, "int32")
    if len(boxes.shape) == 4:
        index = index * classes + ops.arange(classes, dtype="int32")[:, None]
    boxes = ops.reshape(ops.cast(boxes, "float32"), (-1, math.prod(boxes.shape[1:-1]), 4))
    flat = ops.reshape(index, (-1, classes * candidates, 1))
    boxes = ops.take_along_axis(boxes, flat, axis=1)
    boxes = ops.reshape(boxes, (-1, classes, candidates, 4))
    kept = suppress(boxes, confidence > confidence_threshold, iou_threshold, max_detections)
    scores = ops.where(kept, confidence, -math.inf)
    boxes, scores, found = best_of_rows(boxes, scores, max_detections)
    is_found = scores > -math.inf
    return {
        "boxes": ops.where(is_found[..., None], boxes, -1.0),
        "classes": ops.where(is_found, found, -1),
        "confidence": ops.where(is_found, scores, -1.0),
        "num_detections": ops.sum(ops.cast(is_found, "int32"), axis=1),
    }
