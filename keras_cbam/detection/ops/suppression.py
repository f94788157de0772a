"""Non-maximum suppression within groups of boxes: classes, or levels of a pyramid."""

from keras import ops


def suppress_in_groups(
    boxes, confidence, groups, image_size, iou_threshold, confidence_threshold, max_detections
):
    """The most confident boxes of which no two in a group overlap by more than the IoU threshold.

    Args:
        boxes: tensor `(batch, boxes, 4)`, "xyxy" in pixels.
        confidence, groups: tensors `(batch, boxes)`; groups are int32 from 0.

    Returns:
        Dict, padded with -1, see `Detector.decode_predictions`; `"classes"` are the groups.
    """
    # TensorFlow's own converts to LiteRT. As the package, this file imports it where it is needed.
    import tensorflow as tf

    # Each group moves to where it overlaps no other. Float32 is rounded there: for 80 groups in an
    # image of 640 pixels to 1/128 pixel.
    boxes, confidence = ops.cast(boxes, "float32"), ops.cast(confidence, "float32")
    apart = boxes + ops.cast(groups, "float32")[..., None] * 2.0 * max(image_size)
    chosen, count = tf.image.non_max_suppression_padded(
        tf.gather(apart, [1, 0, 3, 2], axis=-1),
        confidence,
        max_detections,
        iou_threshold,
        confidence_threshold,
        pad_to_max_output_size=True,
        canonicalized_coordinates=True,
    )
    is_found = tf.range(max_detections)[None] < count[:, None]

    def found(values, mask):
        return tf.where(mask, tf.gather(values, chosen, batch_dims=1), -1)

    return {
        "boxes": found(boxes, is_found[..., None]),
        "classes": found(groups, is_found),
        "confidence": found(confidence, is_found),
        "num_detections": count,
    }
