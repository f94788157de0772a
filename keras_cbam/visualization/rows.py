"""The rows of figures and pages: an image, a map, and the map over the image, with their numbers.

`attention_rows` and `grad_cam_row` make rows of arrays and texts; `draw_rows` draws them, and the
page of `keras-cbam explain` shows them too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_cbam.visualization.colours import (
    DIVERGING,
    LEAST_REACH,
    Scale,
    colour_scale,
    in_words,
    number,
    overlay,
)
from keras_cbam.visualization.layer_maps import LayerAttention, spatial_map
from keras_cbam.visualization.panels import TRAINING_COLOUR, draw_colour_bar, set_title, wrapped

# Positions along each axis of a map that is drawn; a smaller one is told in numbers.
LEAST_DRAWN = 4
# Inches: the columns' widths, of texts, image, map, map over the image, channels or classes.
WIDTHS = (1.7, 1.25, 1.25, 1.25, 1.5)
UNTRAINED = "The attention is not trained yet: each gate is exactly 1."


class Row(NamedTuple):
    """A row: heading, Keras' name, texts, and what is drawn, `None` where there is none.

    `channels` are the gates of all channels; `classes` are pairs of a name and a probability.
    """

    image: np.ndarray
    heading: str
    name: str
    lines: Sequence[str]
    values: np.ndarray | None
    scale: Scale
    channels: np.ndarray | None = None
    classes: Sequence[tuple[str, float]] | None = None


def grad_cam_row(image: np.ndarray, label: str, activation: Any, index: int, **more: Any) -> Row:
    """The row of one map of a `ClassActivation`."""
    probability = activation.probabilities[index, activation.classes[index]]
    heading = f"{label}: {probability:.2f}"
    size = " x ".join(map(str, activation.size[::-1]))
    lines = ["Grad-CAM, relative to its maximum", f"from {size} positions"]
    values = activation.maps[index]
    if not values.any():
        lines.append("zero everywhere: nothing speaks for the class")
    return Row(image, heading, activation.layer, lines, values, Scale(0, 1), **more)


def attention_rows(image: np.ndarray, maps: Mapping[str, LayerAttention]) -> list[Row]:
    """A row for each layer."""
    rows = []
    for name, (scores, place, is_identity) in maps.items():
        values, lines = spatial_map(scores), []
        channels: Any = None
        if values is not None:
            lines.append(f"spatial gate: {in_words(values)}")
        if scores.channel is not None:
            channels = np.sort(scores.channel[0].reshape(-1))[::-1]
            lines.append(f"channel gate: {in_words(channels)}")
        scale = colour_scale(channels if values is None else values, is_identity)
        if values is not None and min(values.shape) < LEAST_DRAWN:
            values = None
        rows.append(Row(image, place, name, lines, values, scale, channels))
    return rows


def last_of_each_size(maps: Mapping[str, LayerAttention]) -> dict[str, LayerAttention]:
    """The last layer at each resolution, or number of channels without a spatial gate."""
    last = {}
    for name, one in maps.items():
        values = spatial_map(one.scores)
        size = one.scores.channel.shape if values is None else values.shape
        # In the order of the last layers.
        last.pop(size, None)
        last[size] = name
    return {name: maps[name] for name in last.values()}


def size_of(rows: Sequence[Row]) -> tuple[float, float]:
    """Inches that `draw_rows` needs."""
    heights = [WIDTHS[1] * min(row.image.shape[0] / row.image.shape[1], 2) for row in rows]
    return sum(WIDTHS[: _columns(rows)]) + 0.5, sum(
        max(height, 1.25) + 0.2 for height in heights
    ) + 0.3


def _columns(rows):
    is_wide = any(row.channels is not None or row.classes for row in rows)
    return len(WIDTHS) if is_wide else len(WIDTHS) - 1


def draw_rows(figure: Any, rows: Sequence[Row]) -> None:
    columns = _columns(rows)
    grid = figure.subplots(len(rows), columns, squeeze=False, width_ratios=WIDTHS[:columns])
    for axes, row in zip(grid, rows):
        for axis in axes[:4]:
            axis.set_axis_off()
        texts = [row.heading, row.name, *row.lines]
        heading, *others = (wrapped(text, 27) for text in texts if text)
        style = {"va": "top", "fontsize": 7.5, "parse_math": False}
        below = axes[0].text(0, 1, heading, weight="bold", **style)
        axes[0].annotate("\n".join(others), (0, -0.3), xycoords=below, **style)
        axes[1].imshow(row.image, interpolation="nearest")
        if row.values is None:
            what = f"map under {LEAST_DRAWN} x {LEAST_DRAWN}:\nsee its numbers"
            what = what if len(row.lines) == 2 else "no spatial gate"
            axes[2].text(0.5, 0.5, what, ha="center", va="center", fontsize=7.5, color="grey")
        else:
            low, high, colours = row.scale
            limits = {"vmin": low, "vmax": high, "cmap": colours}
            axes[2].imshow(row.values, interpolation="nearest", **limits)
            axes[3].imshow(overlay(row.image, row.values, row.scale))
            draw_colour_bar(axes[3], row.scale)
        if row.channels is not None:
            _draw_channels(axes[4], row.channels, row.scale.colours == DIVERGING)
        elif row.classes:
            _draw_classes(axes[4], row.classes)
        elif columns > 4:
            axes[4].set_axis_off()
    for axis, title in zip(grid[0, 1:4], ("image", "map", "map over image")):
        set_title(axis, title)


def _draw_channels(axis, gates, is_identity):
    """All gates as one falling curve, with the values at its ends."""
    places = np.linspace(0, 1, len(gates))
    axis.plot(places, gates, color=TRAINING_COLOUR, linewidth=1.4)
    if is_identity:
        axis.axhline(1, color="grey", linewidth=0.8, linestyle="dotted")
    highest, lowest = float(gates[0]), float(gates[-1])
    room = max(0.3 * (highest - lowest), LEAST_REACH)
    axis.set(xlim=(-0.05, 1.05), ylim=(lowest - room, highest + room), yticks=[])
    style = {"textcoords": "offset points", "fontsize": 7}
    axis.annotate(number(highest), (0, highest), (0, 4), ha="left", **style)
    axis.annotate(number(lowest), (1, lowest), (0, -4), ha="right", va="top", **style)
    axis.set_xticks([0, 1], ["highest", "lowest"], fontsize=7)
    set_title(axis, f"{len(gates)} channels, sorted")
    axis.spines[["top", "right", "left"]].set_visible(False)


def _draw_classes(axis, classes):
    """The likeliest classes, their names on the bars' own lines."""
    for place, (name, probability) in enumerate(classes):
        axis.barh(place, probability, height=0.4, color=TRAINING_COLOUR)
        text = f"{name if len(name) < 20 else name[:17] + '...'}: {probability:.2f}"
        style = {"fontsize": 7, "va": "bottom", "parse_math": False}
        axis.text(0, place - 0.22, text, **style)
    axis.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.9), yticks=[], xticks=[])
    set_title(axis, "likeliest classes")
    axis.set_axis_off()
