"""SSD's default boxes."""

import numpy as np


def default_boxes(image_size, feature_sizes, scales, aspect_ratios):
    """SSD's default boxes: the anchors of every position of every feature map.

    With `s_k` the scale of level k, of the shorter side of the image, each position has a box
    `s_k` wide and high, one of `sqrt(s_k * s_(k+1))`, and for each aspect ratio r the boxes
    `s_k * sqrt(r)` wide and `s_k / sqrt(r)` high, and the other way round.

    Args:
        image_size: tuple `(height, width)`, pixels.
        feature_sizes: list of tuples `(height, width)`, a feature map each.
        scales: list of floats, one more than there are feature maps, increasing.
        aspect_ratios: list of tuples of floats above 1, a tuple for each feature map.

    Returns:
        float32 array `(boxes, 4)`, "xyxy" in pixels, not clipped, ordered by feature map, row,
        column, and shape as above.

    Example:

    >>> default_boxes((300, 300), [(3, 3), (1, 1)], [0.2, 0.5, 0.9], [(2,), (2, 3)]).shape
    (42, 4)

    Reference:

    - [Liu et al., SSD](https://arxiv.org/abs/1512.02325), section 2.2
    """
    image_height, image_width = image_size
    side = min(image_size)
    boxes = []
    for level, (height, width) in enumerate(feature_sizes):
        scale, following = scales[level] * side, scales[level + 1] * side
        shapes = [(scale, scale), (np.sqrt(scale * following),) * 2]
        for ratio in aspect_ratios[level]:
            root = np.sqrt(ratio)
            shapes += [(scale * root, scale / root), (scale / root, scale * root)]
        y, x = np.meshgrid(
            (np.arange(height) + 0.5) * image_height / height,
            (np.arange(width) + 0.5) * image_width / width,
            indexing="ij",
        )
        centers = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        halves = np.array(shapes)[None] / 2
        boxes.append(np.concatenate([centers - halves, centers + halves], axis=-1).reshape(-1, 4))
    return np.concatenate(boxes).astype("float32")


def boxes_of_position(aspect_ratios):
    """How many default boxes a position has."""
    return 2 + 2 * len(aspect_ratios)
