"""How an image gets to the size that a detector takes: resized with its aspect, and padded."""

import numpy as np
from PIL import Image


def fitted_size(
    height: int, width: int, image_size: int, short_side: int | None = None
) -> tuple[int, int]:
    """Height and width of an image whose longer side is resized to `image_size` pixels.

    With `short_side`, its shorter side is resized to that, if the longer one stays within
    `image_size`.
    """
    part, whole = image_size, max(height, width)
    if short_side and short_side * whole < image_size * min(height, width):
        part, whole = short_side, min(height, width)
    return max(1, round(height * part / whole)), max(1, round(width * part / whole))


def fitted_scale(
    height: int, width: int, image_size: int, short_side: int | None = None
) -> np.ndarray:
    """What takes pixels of an image to those of the resized one, across and down."""
    new_height, new_width = fitted_size(height, width, image_size, short_side)
    return np.array([new_width / width, new_height / height], "float32")


def fitted(image: Image.Image, image_size: int, short_side: int | None = None) -> np.ndarray:
    """A uint8 square of an RGB image resized to `fitted_size`, black on the right and below."""
    size = fitted_size(image.height, image.width, image_size, short_side)
    return square_of(image, size, image_size)


def square_of(image, size, side, corner=(0, 0)):
    """A uint8 square of a part of an image resized to `(height, width)`, black where it ends."""
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    left, top = corner
    part = np.asarray(image)[top : top + side, left : left + side]
    canvas = np.zeros((side, side, 3), "uint8")
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas
