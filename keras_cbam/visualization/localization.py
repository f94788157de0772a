"""Maps judged by numbers: how much of a map, and its highest point, lie on the object."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def pointing_game(maps: np.ndarray, boxes: Sequence[ArrayLike] | np.ndarray) -> float:
    """The part of the maps whose highest point lies in a box of their image.

    `hits / maps`, where a map hits if the centre of its highest position (the first of several) is
    in one of the boxes of its image. To be compared with `area_share`: chance gives about that.

    Args:
        maps: array `(batch, height, width)`, Grad-CAM or spatial attention maps.
        boxes: for each map an array `(boxes, 4)`, or one of shape `(4,)`: left, top, right and
            bottom edges in [0, 1], parts of the image's width and height. An array of booleans,
            `(batch, height, width)`, is taken for masks.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: if the shapes do not agree, or a box is outside [0, 1].

    Example:

    >>> maps = np.zeros((1, 8, 8))
    >>> maps[0, 2, 6] = 1
    >>> pointing_game(maps, [[0.5, 0, 1, 0.5]])
    1.0

    Reference:

    - [Zhang et al., Top-down Neural Attention by Excitation Backprop](
      https://arxiv.org/abs/1608.00507), section 4.2
    """
    maps, masks = _maps_and_masks(maps, boxes)
    highest = maps.reshape(len(maps), -1).argmax(axis=1)
    return float(np.mean([mask.flat[place] for mask, place in zip(masks, highest)]))


def energy_inside(maps: np.ndarray, boxes: Sequence[ArrayLike] | np.ndarray) -> np.ndarray:
    """The part of each map's sum that lies in the boxes: `sum(map * inside) / sum(map)`.

    To be compared with `area_share`, which a map without structure gives.

    Args:
        maps: array `(batch, height, width)` of values that are not negative.
        boxes: see `pointing_game`.

    Returns:
        Array `(batch,)` in [0, 1]; NaN for a map that is 0 everywhere.

    Raises:
        ValueError: see `pointing_game`; or if a value is negative.

    Example:

    >>> energy_inside(np.ones((1, 8, 8)), [[0.5, 0, 1, 0.5]])
    array([0.25])
    """
    maps, masks = _maps_and_masks(maps, boxes)
    if (maps < 0).any():
        raise ValueError(f"The maps must not be negative. Received: a minimum of {maps.min():g}")
    axes = (1, 2)
    with np.errstate(invalid="ignore"):
        return (maps * masks).sum(axes) / maps.sum(axes)


def area_share(maps: np.ndarray, boxes: Sequence[ArrayLike] | np.ndarray) -> np.ndarray:
    """The part of each map's positions whose centre lies in the boxes, an array `(batch,)`.

    For the arguments and errors see `pointing_game`.

    Example:

    >>> area_share(np.ones((1, 8, 8)), [[0.5, 0, 1, 0.5]])
    array([0.25])
    """
    return _maps_and_masks(maps, boxes)[1].mean((1, 2))


def _maps_and_masks(maps, boxes):
    """The maps as float64, and masks of their shape."""
    maps = np.asarray(maps, "float64")
    if maps.ndim != 3 or not np.isfinite(maps).all():
        raise ValueError(
            "`maps` must be finite, of shape (batch, height, width). "
            f"Received: an array of shape {maps.shape}"
        )
    if isinstance(boxes, np.ndarray) and boxes.dtype.kind == "b" and boxes.shape == maps.shape:
        return maps, boxes
    boxes = [np.asarray(own, "float64").reshape(-1, 4) for own in boxes]
    y, x = ((np.arange(count) + 0.5) / count for count in maps.shape[1:])
    masks = []
    for own in boxes:
        if ((own < 0) | (own > 1)).any():
            raise ValueError(
                "The edges of boxes must be parts of the image's size, in [0, 1]. "
                f"Received: boxes={own.tolist()}"
            )
        left, top, right, bottom = (edge[:, None, None] for edge in own.T)
        is_inside = (left <= x) & (x <= right) & (top <= y[:, None]) & (y[:, None] <= bottom)
        masks.append(is_inside.any(axis=0))
    if len(masks) != len(maps):
        raise ValueError(
            f"There must be boxes for each of the {len(maps)} maps. Received: {len(masks)}"
        )
    return maps, np.stack(masks)
