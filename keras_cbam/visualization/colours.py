"""Colours of maps: the scale that a map and its overlay share, and their values in words.

A gate that starts as an identity is `1 + s (M - 1)`: it changes nothing at 1, so its colours
diverge around 1. All other maps have a sequence of colours from their minimum to their maximum.
"""

from typing import NamedTuple

import numpy as np

from keras_cbam.visualization.images import resized_map

# Perceptually even, and legible for colour-blind readers.
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
# A map whose values differ by less is nearly constant: the features are hardly weighted.
CONSTANT_RANGE = 0.02
# A scale reaches at least this far from its middle, so that no noise looks like structure.
LEAST_REACH = 0.05
# Part of a map in its mixture with the image below it.
OPACITY = 0.55
# Weights of red, green and blue in the brightness of an image (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


class Scale(NamedTuple):
    """The values at both ends of a scale, and Matplotlib's name of its colours."""

    low: float
    high: float
    colours: str = SEQUENTIAL


def colour_scale(values: np.ndarray, is_identity: bool = False) -> Scale:
    """The scale of a map; `is_identity`: its layer started as an identity."""
    low, high = float(values.min()), float(values.max())
    if is_identity:
        reach = max(1 - low, high - 1, LEAST_REACH)
        return Scale(1 - reach, 1 + reach, DIVERGING)
    if is_nearly_constant(values):
        middle = (low + high) / 2
        return Scale(middle - LEAST_REACH, middle + LEAST_REACH)
    return Scale(low, high)


def is_nearly_constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) < CONSTANT_RANGE)


def number(value: float) -> str:
    """Three digits of a value: 0.500, 1.03 or 12.1."""
    return f"{value:#.3g}".rstrip(".")


def in_words(values: np.ndarray) -> str:
    """The minimum, the maximum and the standard deviation of a map, and whether it is flat."""
    low, high = number(values.min()), number(values.max())
    if low == high:
        return f"{low} everywhere"
    text = f"{low} to {high}, deviation {values.std():.2g}"
    return f"{text}, nearly constant" if is_nearly_constant(values) else text


def coloured(values: np.ndarray, scale: Scale) -> np.ndarray:
    """A map as RGB in [0, 1]."""
    from matplotlib import colormaps

    return colormaps[scale.colours]((values - scale.low) / (scale.high - scale.low))[..., :3]


def overlay(image: np.ndarray, values: np.ndarray, scale: Scale) -> np.ndarray:
    """An RGB image in grey with a map over it, resized to it, as RGB in [0, 1]."""
    grey = (image @ np.array(_LUMA))[..., None]
    colours = coloured(resized_map(values, image.shape[:2]), scale)
    return np.clip((1 - OPACITY) * grey + OPACITY * colours, 0, 1)
