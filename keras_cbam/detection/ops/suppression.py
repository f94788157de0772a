"""Non-maximum suppression within groups of boxes: classes, or levels of a pyramid."""

from keras import ops
from keras_cv.layers import NonMaxSuppression


def suppress_in_groups(boxes, confidence, groups, num_groups, image_size, **kwargs):
    """The most confident boxes of which no two of a group overlap by as much as a threshold.

    All groups at once: each is moved to a place of its own, where it overlaps no other. Coordinates
    are rounded as float32 is there: for 80 groups in an image of 640 pixels to 1/128 pixel.

    `boxes` are `(batch, boxes, 4)`, "xyxy" in pixels, inside the image; `confidence`, positive, and
    `groups`, from 0, are `(batch, boxes)`. Returns, as `keras_cv.layers.NonMaxSuppression` of the
    further arguments does, `"boxes"`, `"classes"` (the groups), `"confidence"`, padded with -1, and
    `"num_detections"`.
    """
    apart = 2.0 * max(image_size)
    shift = ops.cast(groups, "float32")[..., None] * apart
    kept = NonMaxSuppression(
        bounding_box_format="xyxy", from_logits=False, dtype="float32", **kwargs
    )(boxes + shift, ops.one_hot(groups, num_groups) * confidence[..., None])
    groups = ops.cast(kept["classes"], "int32")
    shift = ops.cast(groups, "float32")[..., None] * apart
    boxes = ops.where(groups[..., None] >= 0, kept["boxes"] - shift, -1.0)
    return {**kept, "boxes": boxes, "classes": groups}
