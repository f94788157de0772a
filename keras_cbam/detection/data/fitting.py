"""How images and boxes get to the size that a detector takes, by Pillow and NumPy."""

import numpy as np
from PIL import Image, ImageOps

# By how much an image is magnified, and its brightness changed.
SCALES = (0.75, 4 / 3)
BRIGHTNESS = (-32.0, 32.0)
# What must be left of a box: a part of its area, and pixels of each side.
LEAST_PART, LEAST_SIDE = 0.25, 2.0


def fitted_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is resized to `image_size` pixels."""
    longer = max(height, width)
    return max(1, round(height * image_size / longer)), max(1, round(width * image_size / longer))


def fitted_scale(height: int, width: int, image_size: int) -> np.ndarray:
    """What takes pixels of an image to those of the resized one, across and down."""
    new_height, new_width = fitted_size(height, width, image_size)
    return np.array([new_width / width, new_height / height], "float32")


def fitted(image, image_size, longer=None, corner=(0, 0)):
    """A uint8 square, black where it ends, of a Pillow image with a longer side of `longer`."""
    height, width = fitted_size(image.height, image.width, longer or image_size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = corner
    part = np.asarray(image)[top : top + image_size, left : left + image_size]
    canvas = np.zeros((image_size, image_size, 3), "uint8")
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas


def augmented(image, boxes, image_size, generator):
    """An image changed at random: uint8 pixels, its boxes in these, and which boxes are left."""
    is_flipped = generator.random() < 0.5
    longer = round(image_size * generator.uniform(*SCALES))
    left, top = (max(longer - image_size, 0) * generator.random(2)).astype(int)
    brightness = generator.uniform(*BRIGHTNESS)
    if is_flipped:
        image, boxes = ImageOps.mirror(image), boxes.copy()
        boxes[:, [0, 2]] = image.width - boxes[:, [2, 0]]
    pixels = fitted(image, image_size, longer, (left, top)) + brightness
    moved = boxes * np.tile(fitted_scale(image.height, image.width, longer), 2)
    moved -= np.array([left, top] * 2, "float32")
    found = np.clip(moved, 0, image_size)
    sides = found[:, 2:] - found[:, :2]
    whole = (moved[:, 2:] - moved[:, :2]).prod(axis=1)
    is_left = (sides.prod(axis=1) >= LEAST_PART * whole) & (sides.min(axis=1) >= LEAST_SIDE)
    return np.clip(np.rint(pixels), 0, 255).astype("uint8"), found, is_left
