"""Boxes as a detector regresses them: offsets from anchors."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_cbam.detection.ops import ops

# What SSD and the second stage of Faster R-CNN divide offsets by; its first stage takes them whole.
VARIANCES = (0.1, 0.1, 0.2, 0.2)
# The logarithm of 1000 / 16, the bound of the Faster R-CNN authors' code.
LARGEST_LOG_RATIO = 4.135166556742356


def encode_boxes(boxes: Any, anchors: Any, variances: Sequence[float] = VARIANCES) -> Any:
    """The offsets of boxes from anchors: what a detector learns.

    With centers `(x, y)` and sizes `(w, h)`, of the anchor with index a: `((x - x_a) / w_a, (y -
    y_a) / h_a, log(w / w_a), log(h / h_a)) / variances`.

    Args:
        boxes, anchors: float tensors `(..., 4)`, "xyxy" in pixels, that broadcast.
        variances: four floats. Defaults to SSD's `(0.1, 0.1, 0.2, 0.2)`.

    Returns:
        float32 tensor `(..., 4)`, without unit.

    Example:

    >>> encode_boxes(np.array([[0.0, 0.0, 20.0, 10.0]]), np.array([[0.0, 0.0, 10.0, 10.0]]))
    [[5.0, 0.0, 3.4657, 0.0]]

    Source: [Liu et al., SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """
    centers, sizes = _centers_and_sizes(boxes)
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    # Padding has no size: its offsets are masked, but must not be infinite.
    sizes = ops.maximum(sizes, keras.config.epsilon())
    offsets = ops.concatenate(
        [(centers - anchor_centers) / anchor_sizes, ops.log(sizes / anchor_sizes)], axis=-1
    )
    return offsets / np.array(variances, "float32")


def decode_boxes(offsets: Any, anchors: Any, variances: Sequence[float] = VARIANCES) -> Any:
    """The inverse of `encode_boxes`, in pixels, of arguments as there.

    A box is at most 62.5 times as wide or high as its anchor: wild predictions stay finite.
    """
    anchor_centers, anchor_sizes = _centers_and_sizes(anchors)
    offsets = ops.convert_to_tensor(offsets, dtype="float32") * np.array(variances, "float32")
    centers = offsets[..., :2] * anchor_sizes + anchor_centers
    halves = ops.exp(ops.minimum(offsets[..., 2:], LARGEST_LOG_RATIO)) * anchor_sizes / 2
    return ops.concatenate([centers - halves, centers + halves], axis=-1)


def clip_boxes(boxes: Any, height: int, width: int) -> Any:
    """Boxes `(..., 4)`, "xyxy" in pixels, cut at the edges of the image."""
    edges = ops.convert_to_tensor([width, height, width, height], dtype="float32")
    return ops.minimum(ops.maximum(boxes, 0.0), edges)


def _centers_and_sizes(boxes):
    boxes = ops.convert_to_tensor(boxes, dtype="float32")
    corners, opposite = boxes[..., :2], boxes[..., 2:]
    return (corners + opposite) / 2, opposite - corners
