"""Anchors: the boxes from which a detector regresses, at every position of its feature maps."""

import numpy as np


def default_boxes(image_size, feature_sizes, scales, aspect_ratios):
    """SSD's anchors, float32 `(boxes, 4)` in pixels, not clipped; sizes are `(height, width)`.

    Source: [SSD](https://arxiv.org/abs/1512.02325), section 2.2.
    """
    sizes = np.array(scales) * min(image_size)
    boxes = []
    for size, following, ratios, features in zip(sizes, sizes[1:], aspect_ratios, feature_sizes):
        shapes = [(size, size), (np.sqrt(size * following),) * 2]
        for root in np.sqrt(ratios):
            shapes += [(size * root, size / root), (size / root, size * root)]
        boxes.append(_at_positions(features, np.array(image_size) / features, shapes))
    return np.concatenate(boxes)


def boxes_of_position(aspect_ratios):
    """How many default boxes a position has."""
    return 2 + 2 * len(aspect_ratios)


def level_anchors(image_size, strides, feature_sizes, scale, aspect_ratios):
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
