"""Non-maximum suppression within groups of boxes: classes, or levels of a pyramid."""

from keras import ops
from keras_cv.layers import NonMaxSuppression


def suppress_in_groups(boxes, confidence, groups, num_groups, image_size, **kwargs):
    """What keras_cv's `NonMaxSuppression` of the further arguments finds, within each group."""
    # Each group moves to where it overlaps no other. Float32 is rounded there: for 80 groups in an
    # image of 640 pixels to 1/128 pixel.
    apart = 2.0 * max(image_size)
    shift = ops.cast(groups, "float32")[..., None] * apart
    kept = NonMaxSuppression(
        bounding_box_format="xyxy", from_logits=False, dtype="float32", **kwargs
    )(boxes + shift, ops.one_hot(groups, num_groups) * confidence[..., None])
    groups = ops.cast(kept["classes"], "int32")
    shift = ops.cast(groups, "float32")[..., None] * apart
    boxes = ops.where(groups[..., None] >= 0, kept["boxes"] - shift, -1.0)
    return {**kept, "boxes": boxes, "classes": groups}
