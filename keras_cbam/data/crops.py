"""The crops of ImageNet training and evaluation, of Pillow images as `open_image` gives them."""

import math

import numpy as np
from PIL import Image

# Part of an image's area that a training crop covers, and its width by its height.
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10
# The shorter side of an evaluated image, by the side of its crop.
SHORTER_SIDE = 256 / 224


def random_box(
    width: int, height: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part of an image of that size in pixels, by a `numpy.random.Generator`.

    Its area is uniform in [8 %, 100 %], and so is the logarithm of its aspect ratio in [3/4, 4/3].

    Returns:
        Four ints: left, top, right and bottom. If ten draws do not fit in the image, the
        largest centred part with such an aspect ratio.
    """
    for _ in range(TRIES):
        area = width * height * generator.uniform(AREA[0], AREA[1])
        aspect = math.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(generator.integers(width - box_width + 1))
            top = int(generator.integers(height - box_height + 1))
            return left, top, left + box_width, top + box_height
    box_width = min(width, round(height * ASPECT[1]))
    box_height = min(height, round(width / ASPECT[0]))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def training_crop(image: Image.Image, size: int, generator: np.random.Generator) -> np.ndarray:
    """A random part of an image, see `random_box`, resized and, one time in two, mirrored."""
    # Cut out first: the filter takes in nothing from outside the part.
    part = image.crop(random_box(*image.size, generator))
    part = part.resize((size, size), Image.Resampling.BILINEAR)
    if generator.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part.convert("RGB"))


def evaluation_crop(image: Image.Image, size: int) -> np.ndarray:
    """The centre of an image, after its shorter side is resized to `round(size * 256 / 224)`.

    Arguments and result are those of `square`.
    """
    shorter = round(size * SHORTER_SIDE)
    lengths = [int(shorter * length / min(image.size)) for length in image.size]
    starts = [round((length - size) / 2) for length in lengths]
    # Resizes what is kept only: the whole of a long and narrow image may not fit in memory.
    left, top, right, bottom = (
        (start + offset) * full / length
        for offset in (0, size)
        for start, length, full in zip(starts, lengths, image.size)
    )
    edges = (left, top, right, bottom)
    part = image.resize((size, size), Image.Resampling.BILINEAR, box=edges)
    return np.asarray(part.convert("RGB"))
