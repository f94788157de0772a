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

    # Samples along one axis, in positions of the feature map.
    grid = (ops.arange(size * samples, dtype="float32") + 0.5) / (size * samples)
    stride = of_level(strides)
    y = (boxes[..., 1:2] + grid * (boxes[..., 3:4] - boxes[..., 1:2])) / stride - 0.5
    x = (boxes[..., 0:1] + grid * (boxes[..., 2:3] - boxes[..., 0:1])) / stride - 0.5

    def neighbours(position, limit):
        position = ops.clip(position, 0.0, limit)
        low = ops.floor(position)
        high = ops.minimum(low + 1.0, limit)
        return (low, 1.0 - (position - low)), (high, position - low)

    batch, count = ops.shape(boxes)[0], boxes.shape[1]
    first = ops.cast(of_level(starts, "int32"), "int32")
    width = of_level(widths, "int32")
    total = 0.0
    for row, row_weight in neighbours(y, of_level(heights) - 1.0):
        for column, column_weight in neighbours(x, of_level(widths) - 1.0):
            index = first[..., None] + ops.cast(row, "int32")[..., None] * width[..., None]
            index = index + ops.cast(column, "int32")[..., None, :]
            index = ops.reshape(index, (batch, count * (size * samples) ** 2, 1))
            values = ops.take_along_axis(rows, index, axis=1)
            values = ops.reshape(values, (batch, count, size * samples, size * samples, channels))
            weight = row_weight[..., :, None] * column_weight[..., None, :]
            total = total + values * ops.cast(weight, values.dtype)[..., None]
    cells = ops.reshape(total, (batch, count, size, samples, size, samples, channels))
    return ops.mean(cells, axis=(3, 5))
