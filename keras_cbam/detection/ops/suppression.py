"""Non-maximum suppression within groups of boxes, classes or levels of a pyramid, by TensorFlow's.

On two cores, 16 images with 8,732 boxes of 20 classes take 0.06 s.
"""

import math
from typing import Any

from keras_cbam.detection.ops import ops

# Boxes of a class that suppression starts from, as in the code of SSD's authors and torchvision.
CANDIDATES = 400


def suppress_in_groups(
    boxes: Any,
    scores: Any,
    groups: Any,
    iou_threshold: float,
    most: int,
    score_threshold: float = -math.inf,
) -> dict[str, Any]:
    """The best boxes of which no two of a group overlap by more than the IoU threshold.

    Of float32 boxes `(batch, boxes, 4)`, scores and int32 groups from 0 `(batch, boxes)`, at most
    `most` with scores above the threshold; as in `Detector.decode_predictions`, where classes are
    the groups.
    """
    # As the package, this file imports TensorFlow where it is needed.
    import tensorflow as tf

    scores, order = ops.top_k(scores, scores.shape[1])
    # Few boxes are above a threshold: the others are not compared. Their number changes, which
    # neither LiteRT nor XLA takes: for these the number of images is known.
    if score_threshold > -math.inf and boxes.shape[0] is None:
        counts = tf.math.count_nonzero(scores > score_threshold, axis=1, dtype="int32")
        number = tf.maximum(tf.reduce_max(counts), 1)
        scores, order = scores[:, :number], order[:, :number]
    boxes, groups = (tf.gather(values, order, batch_dims=1) for values in (boxes, groups))
    # Each group moves to where it overlaps no other: for 20 classes in 300 pixels, float32 is
    # rounded to 1/2048 pixel there. TensorFlow leaves out boxes without an edge above 0.
    least = tf.reduce_min(boxes, axis=(1, 2), keepdims=True) - 1.0
    span = tf.reduce_max(boxes, axis=(1, 2), keepdims=True) - least
    chosen, count = tf.image.non_max_suppression_padded(
        boxes - least + ops.cast(groups, "float32")[..., None] * span,
        scores,
        most,
        iou_threshold,
        score_threshold,
        pad_to_max_output_size=True,
        sorted_input=True,
        canonicalized_coordinates=True,
    )
    is_found = tf.range(most) < count[:, None]

    def found(values, mask):
        return tf.where(mask, tf.gather(values, chosen, batch_dims=1), -1)

    return {
        "boxes": found(boxes, is_found[..., None]),
        "classes": found(groups, is_found),
        "confidence": found(scores, is_found),
        "num_detections": count,
    }


def suppress_in_classes(
    boxes: Any,
    probabilities: Any,
    iou_threshold: float,
    confidence_threshold: float,
    max_detections: int,
) -> dict[str, Any]:
    """`suppress_in_groups` of probabilities `(batch, boxes, classes)` and their classes.

    Boxes are `(batch, boxes, 4)`, or `(batch, boxes, classes, 4)`: each class has its own.
    """
    total, classes = probabilities.shape[1:]
    candidates = min(CANDIDATES, total)
    probabilities = ops.transpose(ops.cast(probabilities, "float32"), (0, 2, 1))
    confidence, index = ops.top_k(probabilities, candidates)
    kinds = ops.broadcast_to(ops.arange(classes, dtype="int32")[:, None], (classes, candidates))
    if len(boxes.shape) == 4:
        index = index * classes + kinds
    boxes = ops.reshape(ops.cast(boxes, "float32"), (-1, math.prod(boxes.shape[1:-1]), 4))
    confidence, index = (
        ops.reshape(each, (-1, classes * candidates)) for each in (confidence, index)
    )
    boxes = ops.take_along_axis(boxes, index[..., None], axis=1)
    kinds = ops.broadcast_to(ops.reshape(kinds, (-1,)), ops.shape(index))
    return suppress_in_groups(
        boxes, confidence, kinds, iou_threshold, max_detections, confidence_threshold
    )
