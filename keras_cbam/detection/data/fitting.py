"""How images and boxes get to the size that a detector takes."""

import numpy as np
from PIL import Image


def fitted_size(height, width, image_size):
    """Height and width of an image whose longer side is resized to `image_size` pixels."""
    longer = max(height, width)
    return tuple(max(1, round(length * image_size / longer)) for length in (height, width))


def fitted_scale(height, width, image_size):
    """What takes pixels of an image to those of the resized one: float32 `(2,)`, across and down.

    The two differ by the rounding to whole pixels.
    """
    new_height, new_width = fitted_size(height, width, image_size)
    return np.array([new_width / width, new_height / height], "float32")


def fitted(image, image_size):
    """A Pillow image as a uint8 array `(image_size, image_size, 3)`, black right and below."""
    return window(image, image_size, image_size, (0, 0))


def window(image, image_size, longer, corner):
    """A square, from a corner on, of the image at the size where its longer side is `longer`."""
    height, width = fitted_size(image.height, image.width, longer)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = corner
    part = np.asarray(image)[top : top + image_size, left : left + image_size]
    canvas = np.zeros((image_size, image_size, 3), "uint8")
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas
