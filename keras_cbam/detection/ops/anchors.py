"""Anchors: the boxes from which a detector regresses, at every position of its feature maps."""

import math
from collections.abc import Sequence

import numpy as np

Size = Sequence[int]
# Positions from which on a feature map's step is a power of two in SSD's authors' code.
_LEAST_POSITIONS = 4


def default_boxes(
    image_size: Size,
    feature_sizes: Sequence[Size],
    scales: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
    steps: str = "authors",
) -> np.ndarray:
    """SSD's anchors, float32 `(boxes, 4)` in pixels, not clipped; sizes are `(height, width)`.

    Source: [SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """
    sizes = np.array(scales) * min(image_size)
    boxes = []
    for size, following, ratios, features in zip(sizes, sizes[1:], aspect_ratios, feature_sizes):
        shapes = [(size, size), (np.sqrt(size * following),) * 2]
        for root in np.sqrt(ratios):
            shapes += [(size * root, size / root), (size / root, size * root)]
        apart = [box_step(*pair, steps) for pair in zip(image_size, features)]
        boxes.append(_at_positions(features, apart, shapes))
    return np.concatenate(boxes)


def box_step(length: int, positions: int, steps: str = "authors") -> float:
    """How many pixels the centers of default boxes are apart along a side of the image.

    `"even"`: the side by the positions. `"authors"`: the power of two nearest to that, which is the
    stride, however the network rounds; even below four positions. So these are 8, 16, 32, 64, 100
    and 300 pixels in SSD300, as in the authors' code.
    """
    is_even = steps == "even" or positions < _LEAST_POSITIONS
    return length / positions if is_even else 2.0 ** round(math.log2(length / positions))


def level_anchors(
    image_size: Size,
    strides: Sequence[int],
    feature_sizes: Sequence[Size],
    scale: float,
    aspect_ratios: Sequence[float],
) -> list[np.ndarray]:
    """Faster R-CNN's anchors of each level; an area's root is `scale` times the stride."""
    if [tuple(-(-side // n) for side in image_size) for n in strides] != list(feature_sizes):
        raise ValueError(
            "Each feature map must have the image's size divided by its stride, rounded up. "
            f"Received: input size {image_size}, strides {strides}, feature maps {feature_sizes}"
        )
    roots = np.sqrt(aspect_ratios)
    shapes = scale * np.stack([roots, 1 / roots], axis=-1)
    return [
        _at_positions(size, (stride, stride), stride * shapes)
        for size, stride in zip(feature_sizes, strides)
    ]


def _at_positions(feature_size, steps, shapes):
    """Boxes of shapes `(width, height)` around positions that are steps `(down, across)` apart."""
    y, x = ((np.arange(count) + 0.5) * step for count, step in zip(feature_size, steps))
    centers = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
    halves = np.array(shapes) / 2
    boxes = np.concatenate([centers - halves, centers + halves], axis=-1)
    return boxes.reshape(-1, 4).astype("float32")
