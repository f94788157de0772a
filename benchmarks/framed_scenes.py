"""Scenes of garments in clutter, for the question whether attention helps a classifier.

The embedded garments, of ten classes, lie at random places and sizes on textured grounds. In a
framed scene three to five of them do not overlap, a white frame is around one, and the label is the
class of that one: a network must find the frame before it reads the garment.
"""

import numpy as np
from PIL import Image

from keras_cbam.data import load_data

# Sides of garments and of distractors, by the side of the scene.
SIZES = (0.22, 0.38)
TRIALS = 30


def scenes(count, part, size, is_framed=True, garments=(3, 5), ground="clouds"):
    """Pixels, uint8 `(count, size, size, 3)`, and the classes, int64 `(count,)`.

    `part` is `"train"` or `"test"`, `garments` the fewest and the most of a framed scene, `ground`
    `"clouds"`, `"stripes"` or `"checks"`. A scene without a frame has one garment among two to four
    plain rectangles.
    """
    found = getattr(load_data(None, 32), part)
    sources = found.images.read(np.arange(len(found.labels)))[0][..., 0]
    images, labels = np.empty((count, size, size, 3), "uint8"), np.empty(count, "int64")
    for i in range(count):
        generator = np.random.default_rng([part == "test", size, is_framed, *garments, i])
        canvas = 0.6 * GROUNDS[ground](size, generator) + generator.normal(0, 12, (size, size, 3))
        squares = _squares(generator.integers(garments[0], garments[1] + 1), size, generator)
        for j, (top, left, side) in enumerate(squares):
            window = canvas[top : top + side, left : left + side]
            colour = generator.uniform(80, 255, 3)
            if j and not is_framed:
                window[:: 1 + j % 2] = colour
                continue
            index = generator.integers(len(sources))
            image = Image.fromarray(sources[index]).resize((side, side), Image.Resampling.BICUBIC)
            light = np.asarray(image, "float32")[..., None] / 255
            alpha = np.clip(3 * light, 0, 1)
            window += alpha * (light * colour - window)
            if j == 0:
                labels[i] = found.labels[index]
        if is_framed:
            _frame(canvas, *squares[0])
        images[i] = np.clip(canvas, 0, 255)
    return images, labels


def _squares(count, size, generator):
    """Top, left and side of up to `count` squares that do not overlap, the first one always."""
    squares = []
    for _ in range(count):
        for _ in range(TRIALS):
            side = round(size * generator.uniform(*SIZES))
            top, left = generator.integers(3, size - side - 2, 2)
            # Between them there is room for a frame.
            if all(
                abs(2 * top + side - 2 * a - s) > side + s + 6
                or abs(2 * left + side - 2 * b - s) > side + s + 6
                for a, b, s in squares
            ):
                squares.append((top, left, side))
                break
    return squares


def _frame(canvas, top, left, side):
    inside = canvas[top : top + side, left : left + side].copy()
    canvas[top - 2 : top + side + 2, left - 2 : left + side + 2] = 255
    canvas[top : top + side, left : left + side] = inside


def _clouds(size, generator):
    cells = generator.integers(0, 256, (*generator.integers(3, 12, 2), 3), dtype="uint8")
    image = Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, "float32")


def _waves(size, generator, is_checks=False):
    """Stripes in two colours at a random angle, or checks."""
    colours = generator.uniform(0, 255, (2, 3))
    angle = generator.uniform(0, np.pi)
    y, x = 2 * np.pi * np.mgrid[:size, :size] / (size * generator.uniform(0.06, 0.35))
    waves = np.sin(np.cos(angle) * x + np.sin(angle) * y)
    if is_checks:
        waves = np.sign(waves * np.sin(np.cos(angle) * y - np.sin(angle) * x))
    return colours[0] + (0.5 + 0.5 * waves[..., None]) * (colours[1] - colours[0])


GROUNDS = {
    "clouds": _clouds,
    "stripes": _waves,
    "checks": lambda size, generator: _waves(size, generator, is_checks=True),
}
