"""Which anchor learns which box."""

import keras
from keras import ops


def match_boxes(anchors, boxes, classes, positive, negative, keep_best=True):
    """Each anchor's box of largest IoU, its class, and which anchors are positive and negative."""
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
    if keep_best:
        # Each box also has its best anchor: SSD, section 2.2; Faster R-CNN, section 3.1.2.
        best = ops.one_hot(ops.argmax(iou, axis=1), ops.shape(iou)[1], axis=1, dtype="float32")
        # An anchor must touch its box; the IoU of padding is not above 0.
        best = best * ops.cast(ops.max(iou, axis=1)[:, None] > 0, "float32")
        is_best = ops.max(best, axis=2) > 0
        # Of two boxes with the same best anchor the later keeps it.
        order = ops.cast(ops.arange(ops.shape(best)[2]) + 1, "float32")
        matched = ops.where(is_best, ops.argmax(best * order, axis=2), matched)
        is_positive = is_positive | is_best
        is_negative = is_negative & ~is_best
    boxes = ops.take_along_axis(boxes, matched[..., None], axis=1)
    return boxes, ops.take_along_axis(classes, matched, axis=1), is_positive, is_negative


def first_of(scores, among, count):
    """Which of the entries `among` of each row have the largest scores, at most `count` of them."""
    order = ops.argsort(ops.where(among, -scores, float("inf")), axis=1)
    ranks = ops.argsort(order, axis=1)
    return among & (ops.cast(ranks, "int32") < count)


def sample_matches(is_positive, is_negative, count, positive_fraction, seed):
    """Masks of `count` matches taken at random: positives, at most a fraction, and negatives."""
    scores = keras.random.uniform(ops.shape(is_positive), seed=seed)
    positives = first_of(scores, is_positive, max(1, int(count * positive_fraction)))
    left = count - ops.sum(ops.cast(positives, "int32"), axis=1, keepdims=True)
    return positives, first_of(scores, is_negative, left)
