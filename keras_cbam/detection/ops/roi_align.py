"""Features of regions of interest."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cbam.detection.ops import ops


def level_of(boxes: Any, strides: Sequence[int]) -> Any:
    """Lin et al.'s index of the feature map for each box, which then spans 14 to 28 positions."""
    sizes = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    root = ops.sqrt(sizes[..., 0] * sizes[..., 1])
    level = ops.floor(ops.log(root / (14.0 * strides[0])) / math.log(2.0))
    return ops.cast(ops.clip(level, 0, len(strides) - 1), "int32")


def roi_align(features, boxes, strides, size=7, samples=2):
    """The features of boxes on a grid: bilinear, the mean of `samples` squared in each cell.

    Source: [Mask R-CNN](https://arxiv.org/abs/1703.06870), section 3.
    """
    channels = features[0].shape[-1]
    heights, widths = np.array([feature.shape[1:3] for feature in features]).T
    counts = heights * widths
    rows = ops.concatenate(
        [ops.reshape(feature, (-1, n, channels)) for feature, n in zip(features, counts.tolist())],
        axis=1,
    )
    level = level_of(boxes, strides)

    def of_level(values, dtype="float32"):
        return ops.take(ops.convert_to_tensor(values, dtype=dtype), level, axis=0)[..., None]

    batch, count = ops.shape(boxes)[0], boxes.shape[1]
    # Samples along one axis, by the cell that they are in.
    grid = (ops.arange(size * samples, dtype="float32") + 0.5) / (size * samples)
    stride = of_level(strides)

    def of_cells(low_edge, high_edge, positions):
        """The positions that each cell takes along an axis, and their weights."""
        last = of_level(positions) - 1.0
        sample = (low_edge + grid * (high_edge - low_edge)) / stride - 0.5
        sample = ops.clip(sample, 0.0, last)
        low = ops.floor(sample)
        share = sample - low
        index = ops.stack([low, ops.minimum(low + 1.0, last)], axis=-1)
        weight = ops.stack([1.0 - share, share], axis=-1) / samples
        shape = (batch, count, size, 2 * samples)
        return ops.reshape(ops.cast(index, "int32"), shape), ops.reshape(weight, shape)

    row, row_weight = of_cells(boxes[..., 1:2], boxes[..., 3:4], heights)
    column, column_weight = of_cells(boxes[..., 0:1], boxes[..., 2:3], widths)
    image = ops.arange(batch, dtype="int32")[:, None, None] * rows.shape[1]
    start = image + of_level(np.cumsum(counts) - counts, "int32")
    row = row * of_level(widths, "int32")[..., None] + start[..., None]
    taps = (2 * samples) ** 2
    # Region, row and column of a cell, row and column of a tap in it: LiteRT takes 5 axes at most.
    of_rows, of_columns = (-1, size, 1, 2 * samples, 1), (-1, 1, size, 1, 2 * samples)
    index = ops.reshape(row, of_rows) + ops.reshape(column, of_columns)
    weight = ops.reshape(row_weight, of_rows) * ops.reshape(column_weight, of_columns)
    # One take and one product for all samples of a cell: each pass over them counts.
    values = ops.take(ops.reshape(rows, (-1, channels)), ops.reshape(index, (-1, taps)), axis=0)
    weight = ops.reshape(ops.stop_gradient(weight), (-1, 1, taps))
    cells = ops.matmul(ops.cast(weight, values.dtype), values)
    return ops.reshape(cells, (batch, count, size, size, channels))
