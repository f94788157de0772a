"""Which anchor learns which box."""

from typing import Any

import keras

from keras_cbam.detection.ops import ops


def match_boxes(
    anchors: Any,
    boxes: Any,
    classes: Any,
    positive: float,
    negative: float,
    keep_best: str | None = "box",
) -> tuple[Any, Any, Any, Any]:
    """Each anchor's box of largest IoU, its class, and which anchors are positive and negative.

    Of anchors `(anchors, 4)` or `(batch, anchors, 4)`, boxes `(batch, boxes, 4)` and classes
    `(batch, boxes)`, -1 for padding. From the IoU `positive` on an anchor is positive, below
    `negative` it is negative. `keep_best="box"`: the anchor that is best for a box learns that box,
    as in SSD; `"own"`: all anchors that are best for some box are positive, for the box that is
    best for them, as in Faster R-CNN.
    """
    classes = ops.cast(classes, "int32")
    iou = keras.utils.bounding_boxes.compute_iou(anchors, boxes, bounding_box_format="xyxy")
    iou = ops.where((classes >= 0)[:, None, :], iou, -1.0)
    # A column of zeros: a batch of images without boxes has a largest IoU as well.
    iou = ops.pad(iou, [[0, 0], [0, 0], [0, 1]])
    boxes = ops.pad(boxes, [[0, 0], [0, 1], [0, 0]], constant_values=-1)
    classes = ops.pad(classes, [[0, 0], [0, 1]], constant_values=-1)
    matched = ops.argmax(iou, axis=2)
    largest = ops.max(iou, axis=2)
    is_positive = largest >= positive
    is_negative = largest < negative
    if keep_best is not None:
        # An anchor must touch its box; the IoU of padding is not above 0.
        best_of_box = ops.max(iou, axis=1, keepdims=True)
        is_best = (iou == best_of_box) & (best_of_box > 0)
        if keep_best == "box":
            # Of several equally good anchors the first; of two boxes with the same one the later.
            first = ops.argmax(iou, axis=1)[:, None, :]
            is_best = is_best & (ops.arange(ops.shape(iou)[1])[:, None] == ops.cast(first, "int32"))
            order = ops.arange(1, ops.shape(iou)[2] + 1)
            later = ops.max(ops.where(is_best, order, 0), axis=2) - 1
            matched = ops.where(later >= 0, later, ops.cast(matched, "int32"))
        is_best = ops.any(is_best, axis=2)
        is_positive = is_positive | is_best
        is_negative = is_negative & ~is_best
    matched = ops.cast(matched, "int32")
    boxes = ops.take_along_axis(boxes, matched[..., None], axis=1)
    return boxes, ops.take_along_axis(classes, matched, axis=1), is_positive, is_negative


def first_of(scores: Any, among: Any, count: Any) -> Any:
    """Which of the entries `among` of each row have the largest scores, at most `count` of them."""
    order = ops.argsort(ops.where(among, -scores, float("inf")), axis=1)
    ranks = ops.argsort(order, axis=1)
    return among & (ops.cast(ranks, "int32") < count)


def sample_matches(
    is_positive: Any, is_negative: Any, count: int, positive_fraction: float, seed: Any
) -> tuple[Any, Any]:
    """Masks of `count` matches taken at random: positives, at most a fraction, and negatives."""
    scores = keras.random.uniform(ops.shape(is_positive), seed=seed)
    positives = first_of(scores, is_positive, max(1, int(count * positive_fraction)))
    left = count - ops.sum(ops.cast(positives, "int32"), axis=1, keepdims=True)
    return positives, first_of(scores, is_negative, left)
