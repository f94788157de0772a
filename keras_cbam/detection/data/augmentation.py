"""Training images and their boxes, changed at random, by Pillow and NumPy."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from keras_cbam.detection.data.fitting import fitted, fitted_scale, fitted_size, square_of

# By how much an image is magnified, and its brightness changed.
SCALES = (0.75, 4 / 3)
BRIGHTNESS = (-32.0, 32.0)
# What must be left of a box: a part of its area, and pixels of each side.
LEAST_PART, LEAST_SIDE = 0.25, 2.0
# Of SSD: the largest canvas, the IoU that a crop must have with a box (1: no crop, 0: any), how
# often one is tried, the least part of each side, and what contrast and saturation are changed by.
LARGEST_CANVAS = 4.0
CROP_IOUS = (1.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)
TRIALS = 50
LEAST_CROP = 0.3
CONTRAST = (0.5, 1.5)
MEAN_PIXEL = (123, 117, 104)


def augmented(
    augment: str,
    image: Image.Image,
    boxes: np.ndarray,
    image_size: int,
    short_side: int | None,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image changed as `detection_batches` says, and fitted.

    Args:
        augment: string, one of `AUGMENTATIONS`.
        image: RGB image.
        boxes: float32 array `(boxes, 4)`, edges in its pixels.
        image_size, short_side: see `fitted_size`.
        generator: what all is drawn from.

    Returns:
        uint8 pixels `(image_size, image_size, 3)`, the boxes in these, and a bool array `(boxes,)`,
        which of them are left.
    """
    if augment != "none" and generator.random() < 0.5:
        image, boxes = ImageOps.mirror(image), boxes.copy()
        boxes[:, [0, 2]] = image.width - boxes[:, [2, 0]]
    if augment == "flip_crop_color":
        return _magnified(image, boxes, image_size, short_side, generator)
    is_left = np.ones(len(boxes), bool)
    if augment == "ssd":
        window = _iou_crop(_zoomed_out(*image.size, generator), boxes, generator)
        is_left = _is_inside(window, boxes)
        image = _cut(_recoloured(image, generator), window)
        boxes = np.clip(boxes - np.tile(window[:2], 2), 0, np.tile(image.size, 2))
    scale = fitted_scale(image.height, image.width, image_size, short_side)
    boxes = (boxes * np.tile(scale, 2)).astype("float32")
    return fitted(image, image_size, short_side), boxes, is_left


def _magnified(image, boxes, image_size, short_side, generator):
    magnification = generator.uniform(*SCALES)
    sides = [side and round(side * magnification) for side in (image_size, short_side)]
    height, width = fitted_size(image.height, image.width, *sides)
    rest = np.maximum([width - image_size, height - image_size], 0)
    corner = (rest * generator.random(2)).astype(int)
    pixels = square_of(image, (height, width), image_size, corner)
    pixels = np.clip(np.rint(pixels + generator.uniform(*BRIGHTNESS)), 0, 255).astype("uint8")
    moved = boxes * np.tile(fitted_scale(image.height, image.width, *sides), 2)
    moved -= np.tile(corner, 2).astype("float32")
    found = np.clip(moved, 0, image_size)
    sides = found[:, 2:] - found[:, :2]
    whole = (moved[:, 2:] - moved[:, :2]).prod(axis=1)
    is_left = (sides.prod(axis=1) >= LEAST_PART * whole) & (sides.min(axis=1) >= LEAST_SIDE)
    return pixels, found, is_left


def _zoomed_out(width, height, generator):
    """The edges of a canvas around the image, in its pixels: the image's own for half of them."""
    if generator.random() < 0.5:
        return np.array([0, 0, width, height])
    sides = (generator.uniform(1, LARGEST_CANVAS) * np.array([width, height])).astype(int)
    corner = -(generator.random(2) * (sides - (width, height) + 1)).astype(int)
    return np.concatenate([corner, corner + sides])


def _iou_crop(window, boxes, generator):
    """The edges of a part of a window that has the centre of a box, or of all of it."""
    whole = window[2:] - window[:2]
    while True:
        least = CROP_IOUS[generator.integers(len(CROP_IOUS))]
        if least == 1 or not len(boxes):
            return window
        for _ in range(TRIALS):
            sides = np.maximum(1, whole * generator.uniform(LEAST_CROP, 1, 2)).astype(int)
            corner = window[:2] + (generator.random(2) * (whole - sides + 1)).astype(int)
            crop = np.concatenate([corner, corner + sides])
            if max(sides) <= 2 * min(sides) and _is_inside(crop, boxes).any():
                common = np.minimum(crop[2:], boxes[:, 2:]) - np.maximum(crop[:2], boxes[:, :2])
                common = np.maximum(common, 0).prod(axis=1)
                areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
                if (common / (areas + sides.prod() - common)).max() >= least:
                    return crop


def _is_inside(window, boxes) -> np.ndarray:
    """Whether the centre of each box is in the window."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.all((centres > window[:2]) & (centres < window[2:]), axis=1)


def _cut(image, window):
    """What is in a window, and the mean pixel of ImageNet where the image is not."""
    part = Image.new("RGB", tuple((window[2:] - window[:2]).tolist()), MEAN_PIXEL)
    part.paste(image, tuple((-window[:2]).tolist()))
    return part


def _recoloured(image, generator):
    """Brightness, contrast and saturation are each changed for half of the images."""
    added = generator.uniform(*BRIGHTNESS) if generator.random() < 0.5 else 0.0
    factor = generator.uniform(*CONTRAST) if generator.random() < 0.5 else 1.0
    levels = np.clip(np.rint(factor * (np.arange(256) + added)), 0, 255).astype(int)
    image = image.point(3 * levels.tolist())
    if generator.random() < 0.5:
        image = ImageEnhance.Color(image).enhance(generator.uniform(*CONTRAST))
    return image
