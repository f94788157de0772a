"""Scenes of clothing: images with boxes that are made from the embedded Fashion-MNIST."""

import colorsys
import functools

import numpy as np
from PIL import Image

from keras_cbam.data.load import load_data
from keras_cbam.detection.arguments import SMALLEST_IMAGE
from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.errors import at_least, one_of, positive_integer, validate_seed

PARTS = ("train", "test")
# Side of a garment's image, by the side of the scene.
SIZES = (20 / 96, 56 / 96)
MOST_GARMENTS = 5
# The least part of a garment that must be seen.
VISIBLE = 0.6
# How far a garment's image may lie outside the scene, by its side.
OUTSIDE = 0.1
# Most that is added to or taken from a pixel at the end.
NOISE = 6
_SOURCE_SIZE = 32


def clothing_scenes(
    count: int, part: str = "train", image_size: int = 96, seed: int = 0
) -> DetectionSet:
    """Images of up to five garments on textured grounds, with their boxes; needs no file.

    Garments are the embedded Fashion-MNIST images, of ten classes, 20 to 56 pixels wide and high in
    a scene of 96, tinted, flipped and cut out. They overlap each other and the scene's edges; at
    least 60 % of each is seen, and boxes are tight around that. Scene `i` is a function of `seed`,
    `part`, `image_size` and `i` alone.

    Args:
        count: int, number of scenes.
        part: `"train"` or `"test"`, the part of Fashion-MNIST. Defaults to `"train"`.
        image_size: int, side of the scenes in pixels, at least 32. Defaults to `96`.
        seed: int of at least 0. Defaults to `0`.

    Returns:
        `DetectionSet`, whose images are a uint8 array `(count, image_size, image_size, 3)` and
        areas those of the visible garments.

    Raises:
        ValueError: if an argument is outside its range.

    Example:

    >>> clothing_scenes(1000).images.shape
    (1000, 96, 96, 3)
    """
    positive_integer("count", count)
    at_least(SMALLEST_IMAGE)("image_size", image_size)
    validate_seed("seed", seed)
    one_of(*PARTS)("part", part)
    garments, labels, class_names = _garments(part)
    images = np.empty((count, image_size, image_size, 3), "uint8")
    boxes, classes, areas = [], [], []
    for i in range(count):
        generator = np.random.default_rng([seed, PARTS.index(part), i])
        images[i], chosen, own_boxes, own_areas = _scene(garments, image_size, generator)
        boxes.append(own_boxes)
        areas.append(own_areas)
        classes.append(labels[chosen])
    return DetectionSet(
        name="clothing_scenes",
        class_names=list(class_names),
        images=images,
        sizes=np.full((count, 2), image_size, "int64"),
        boxes=boxes,
        classes=classes,
        ignored=[np.zeros(len(each), bool) for each in boxes],
        areas=areas,
        image_ids=list(range(count)),
        skipped={},
    )


@functools.cache
def _garments(part):
    """Brightness and outline, uint8 `(images, 32, 32, 2)`; labels; and class names."""
    data = load_data(None, _SOURCE_SIZE)
    images, labels = getattr(data, part).images, getattr(data, part).labels
    brightness = images.read(np.arange(len(labels)))[0][..., 0]
    is_bright = brightness > 24
    # Dark parts of a garment lie between bright ones, both across and down.
    across, down = (
        np.maximum.accumulate(is_bright, axis)
        & np.flip(np.maximum.accumulate(np.flip(is_bright, axis), axis), axis)
        for axis in (2, 1)
    )
    outline = ((across & down) * 255).astype("uint8")
    return np.stack([brightness, outline], axis=-1), labels, data.class_names


def _scene(garments, size, generator):
    """Pixels, the garments in it, their boxes and their visible areas."""
    ground = _ground(size, generator)
    is_taken = np.zeros((size, size), bool)
    layers, chosen, boxes, areas = [], [], [], []
    # From the front to the back, so that what is seen of a garment is known when it is put in.
    for _ in range(generator.integers(MOST_GARMENTS + 1)):
        index = int(generator.integers(len(garments)))
        side = round(size * generator.uniform(*SIZES))
        light, alpha, window = _place(garments[index], side, size, generator)
        is_solid = alpha > 0.5
        is_seen = is_solid & ~is_taken[window]
        area = is_seen.sum()
        # Outside the scene nothing of it is solid, and the whole of it is what it is compared with.
        if area < max(VISIBLE * (garments[index][..., 1] > 127).mean() * side**2, 1):
            continue
        tint = _tint(ground[window], generator)
        layers.append((window, alpha[..., None], light[..., None] * tint))
        is_taken[window] |= is_solid
        top, left = window[0].start, window[1].start
        rows, columns = np.flatnonzero(is_seen.any(axis=1)), np.flatnonzero(is_seen.any(axis=0))
        boxes.append((left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1))
        areas.append(area)
        chosen.append(index)
    for window, alpha, colour in reversed(layers):
        ground[window] += alpha * (colour - ground[window])
    ground += generator.integers(-NOISE, NOISE + 1, size=ground.shape, dtype="int8")
    pixels = np.clip(ground + 0.5, 0, 255).astype("uint8")
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    return pixels, np.array(chosen, "int64"), boxes, np.array(areas, "float32")


def _place(garment, side, size, generator):
    """Brightness and outline in [0, 1] of the part in the scene, and the rows and columns of it."""
    if generator.random() < 0.5:
        garment = garment[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(garment))
    image = image.resize((side, side), Image.Resampling.BILINEAR)
    margin = round(OUTSIDE * side)
    top, left = generator.integers(-margin, size - side + margin + 1, size=2)
    part = np.asarray(image)[max(0, -top) : size - top, max(0, -left) : size - left]
    light, alpha = np.moveaxis(part, -1, 0) / np.float32(255)
    top, left = max(0, top), max(0, left)
    window = slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1])
    # The darkest cloth is not black.
    return 0.25 + 0.75 * light, alpha, window


def _colours(count, generator, saturation=(0.0, 0.9), value=(0.15, 1.0)):
    hues = generator.random(count)
    saturations, values = generator.uniform(*saturation, count), generator.uniform(*value, count)
    colours = [colorsys.hsv_to_rgb(*colour) for colour in zip(hues, saturations, values)]
    return 255 * np.array(colours, "float32")


def _tint(ground, generator):
    """Of three bright colours the one that differs most from what is behind."""
    tints = _colours(3, generator, value=(0.6, 1.0))
    behind = ground.mean(axis=(0, 1))
    return tints[np.argmax(np.abs(0.7 * tints - behind).sum(axis=1))]


def _ground(size, generator):
    """A ground of clouds, stripes, checks or grain, float32 `(size, size, 3)` in [0, 255]."""
    kind = generator.integers(4)
    first, second = _colours(2, generator)
    if kind == 0:
        cells = int(generator.integers(2, 9))
        clouds = generator.integers(0, 256, size=(cells, cells, 3), dtype="uint8")
        image = Image.fromarray(clouds).resize((size, size), Image.Resampling.BICUBIC)
        return 0.5 * np.asarray(image, "float32") + 0.5 * first
    if kind == 3:
        share = generator.random((size, size), "float32")
    else:
        angle, phase = generator.uniform(0, 2 * np.pi, 2).astype("float32")
        across = np.arange(size) * (2 * np.pi / (size * generator.uniform(0.06, 0.35)))
        across = across.astype("float32")
        u = np.cos(angle) * across[:, None] + np.sin(angle) * across[None, :] + phase
        v = np.cos(angle) * across[None, :] - np.sin(angle) * across[:, None]
        share = 0.5 + 0.5 * (np.sin(u) if kind == 1 else np.sign(np.sin(u) * np.sin(v)))
    # Both colours are near each other, so that a texture is not taken for a garment.
    second = first + 0.5 * (second - first)
    return first + share[..., None] * (second - first)
