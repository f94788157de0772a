"""Features of regions of interest."""

import math

from keras import ops


def level_of(boxes, strides):
    """The index of the feature map for each box.

    `floor(log2(sqrt(w h) / (14 stride)))`, with the finest stride, clipped to the maps that there
    are: a box then spans 14 to 28 positions, as by `4 + floor(log2(sqrt(w h) / 224))` of Lin et al.
    """
    sizes = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    root = ops.sqrt(sizes[..., 0] * sizes[..., 1])
    level = ops.floor(ops.log(root / (14.0 * strides[0])) / math.log(2.0))
    return ops.cast(ops.clip(level, 0, len(strides) - 1), "int32")


def roi_align(features, boxes, strides, size=7, samples=2):
    """The features of boxes, on a grid: bilinear, the mean of samples in each cell (ROIAlign).

    The value at a sample is the bilinear interpolation of the four nearest positions of the
    feature map, whose centers lie at `(i + 0.5) * stride` pixels; samples outside take the edge.

    Args:
        features: list of float tensors `(batch, height, width, channels)`, the finest first, of
            known height and width, with the same number of channels.
        boxes: float tensor `(batch, boxes, 4)`, "xyxy" in pixels.
        strides: list of ints, pixels, one for each feature map, each twice the one before.
        size: int, cells of the grid on each side. Defaults to `7`.
        samples: int, samples of a cell on each side. Defaults to `2`.

    Returns:
        Tensor `(batch, boxes, size, size, channels)`.

    Reference:

    - [He et al., Mask R-CNN](https://arxiv.org/abs/1703.06870), section 3
    - [Lin et al., Feature Pyramid Networks](https://arxiv.org/abs/1612.03144), section 4.2
    """
    channels = features[0].shape[-1]
    heights, widths = zip(*(feature.shape[1:3] for feature in features), strict=True)
    starts = [
        sum(h * w for h, w in zip(heights[:i], widths[:i], strict=True))
        for i in range(len(features))
    ]
    rows = ops.concatenate(
        [
            ops.reshape(f, (-1, h * w, channels))
            for f, h, w in zip(features, heights, widths, strict=True)
        ],
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
        sample = (low_edge + grid * (high_edge - low_edge)) / stride - 0.5
        last = of_level(positions) - 1.0
        sample = ops.clip(sample, 0.0, last)
        low = ops.floor(sample)
        share = sample - low
        index = ops.stack([low, ops.minimum(low + 1.0, last)], axis=-1)
        weight = ops.stack([1.0 - share, share], axis=-1) / samples
        shape = (batch, count, size, 2 * samples)
        return ops.reshape(ops.cast(index, "int32"), shape), ops.reshape(weight, shape)

    row, row_weight = of_cells(boxes[..., 1:2], boxes[..., 3:4], heights)
    column, column_weight = of_cells(boxes[..., 0:1], boxes[..., 2:3], widths)

    def on_grid(of_rows, of_columns):
        return of_rows[..., :, None, :, None], of_columns[..., None, :, None, :]

    row, column = on_grid(row, column)
    row_weight, column_weight = on_grid(row_weight, column_weight)
    image = ops.arange(batch, dtype="int32")[:, None, None] * rows.shape[1]
    first, width = (
        ops.reshape(values, (batch, count, 1, 1, 1, 1))
        for values in (image + of_level(starts, "int32"), of_level(widths, "int32"))
    )
    taps = (2 * samples) ** 2
    # One take and one product for all samples of a cell: each pass over them counts.
    index = ops.reshape(first + row * width + column, (-1, taps))
    weight = ops.reshape(ops.stop_gradient(row_weight * column_weight), (-1, 1, taps))
    values = ops.take(ops.reshape(rows, (-1, channels)), index, axis=0)
    cells = ops.matmul(ops.cast(weight, values.dtype), values)
    return ops.reshape(cells, (batch, count, size, size, channels))
