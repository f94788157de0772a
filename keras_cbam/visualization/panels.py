"""Draws the parts of figures: images, maps over them, bars."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cbam.errors import require
from keras_cbam.visualization.images import resized_map
from keras_cbam.visualization.layer_maps import AttentionScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ClassNames = Sequence[str] | None
Maps = Mapping[str, AttentionScores]
# Perceptually even, and legible for colour-blind readers.
COLOUR_MAP = "viridis"
# The first two of Okabe and Ito's colours that stay distinct for colour-blind readers.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
STRONGEST_CHANNELS = 8
# Inches of the rows that show attention, in their order.
ROW_HEIGHTS = {"spatial": 3.3, "channel": 2.2}
# Letters that fit above a column.
LINE_LENGTH = 28
# Part of a map in its mixture with the image below it.
OPACITY = 0.6
# Weights of red, green and blue in the brightness of an image (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def figure_class() -> "type[Figure]":
    """`matplotlib.figure.Figure`; without Matplotlib, an ImportError that says how to get it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need Matplotlib, which is not installed: pip install keras_cbam[plot]"
        ) from error
    return Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty `Figure` of that size in inches, which belongs to no window."""
    return figure_class()(figsize=(width, height), layout="constrained")


def split(figure: "Figure", rows: int, heights: Sequence[float] | None = None) -> np.ndarray:
    """The figure as that many parts, one below the other."""
    return figure.subfigures(rows, 1, squeeze=False, height_ratios=heights)[:, 0]


def class_label(index: int, class_names: ClassNames) -> str:
    """The name of a class, or its number."""
    return f"class {index}" if class_names is None else str(class_names[index])


def shortened(label: str) -> str:
    """The label, cut where it would fill the figure."""
    return label if len(label) <= LINE_LENGTH else f"{label[: LINE_LENGTH - 3]}..."


def wrapped(text: str) -> str:
    """The text in lines that fit a column."""
    return textwrap.fill(text, LINE_LENGTH)


def check_class_names(class_names: ClassNames, classes: int) -> None:
    """Raises ValueError unless there are no names, or one for each class."""
    count = classes if class_names is None else len(class_names)
    message = f"`class_names` must have a name for each of the {classes} classes."
    require(count == classes, message, f"{count} names")


def last_of_each_size(maps: Maps) -> dict[str, AttentionScores]:
    """The attention maps of the last layer at each resolution, or else number of channels."""
    last = {}
    for name, scores in maps.items():
        size = next(gate.shape for gate in (scores.spatial, scores.channel) if gate is not None)
        # In the order of the last layers.
        last.pop(size, None)
        last[size] = name
    return {name: maps[name] for name in last.values()}


def attention_height(maps: Maps) -> float:
    """Inches that `draw_attention` needs."""
    return sum(_row_heights(maps).values()) + 0.2


def _row_heights(maps):
    return {
        kind: height
        for kind, height in ROW_HEIGHTS.items()
        if any(getattr(scores, kind) is not None for scores in maps.values())
    }


def draw_attention(figure: Any, image: np.ndarray, maps: Maps, is_untrained: bool) -> None:
    """Draws an RGB image in [0, 1], the spatial maps of layers over it, and below them channels."""
    if is_untrained:
        figure.suptitle("identity: not trained yet", fontsize=10)
    rows = _row_heights(maps)
    ratios = {"height_ratios": list(rows.values())}
    grid = figure.subplots(len(rows), 1 + len(maps), squeeze=False, gridspec_kw=ratios)
    draw_image(grid[0, 0], image, f"image\n{image.shape[1]} x {image.shape[0]}")
    for axis in grid[1:, 0]:
        axis.set_axis_off()
    for row, kind in enumerate(rows):
        for axis, (name, scores) in zip(grid[row, 1:], maps.items()):
            values = getattr(scores, kind)
            title = wrapped(name)
            if values is None or values.ndim != 4:
                axis.set_axis_off()
            elif kind == "spatial":
                gate = _spatial_map(values)
                title += f"\n{gate.shape[1]} x {gate.shape[0]}"
                drawn = draw_overlay(axis, image, gate, title)
                place = {"orientation": "horizontal", "shrink": 0.9}
                bar = draw_colour_bar(figure, drawn, axis, "spatial gate", **place)
                bar.locator_params(nbins=4)
            else:
                gates = values.reshape(-1)
                strongest = np.argsort(-gates, kind="stable")[:STRONGEST_CHANNELS]
                draw_bars(axis, gates[strongest], list(map(str, strongest)), "channel gate")
                axis.set_ylabel(f"strongest of {len(gates)} channels", fontsize=8)
                _set_title(axis, title if row == 0 else "")


def _spatial_map(values):
    """`(height, width)` of a spatial map, wherever its axis of size 1 is."""
    _, *shape = values.shape
    return values.reshape(shape[1:] if shape[0] == 1 and shape[2] != 1 else shape[:2])


def _set_title(axis, title):
    # A dollar sign in a name is no formula.
    axis.set_title(title, fontsize=8, parse_math=False)


def draw_bars(axis: Any, values: Any, labels: Sequence[str], quantity: str) -> None:
    """Horizontal bars, the first on top."""
    positions = np.arange(len(values))
    axis.barh(positions, values, color=TRAINING_COLOUR)
    axis.set_yticks(positions, labels, fontsize=7, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel(quantity, fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.locator_params(axis="x", nbins=4)


def draw_image(axis: Any, image: np.ndarray, title: str) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_axis_off()
    _set_title(axis, title)


def draw_overlay(
    axis: Any, image: np.ndarray, values: np.ndarray, title: str, limits: Any = None
) -> Any:
    """Draws a map over an RGB image in grey, colours up to `limits`; returns what was drawn."""
    low, high = limits or (float(values.min()), float(values.max()))
    if high - low < 1e-6:
        # A gate that is the same everywhere, such as that of an identity.
        low, high = low - 0.5, high + 0.5
    resized = resized_map(values, image.shape[:2])
    axis.imshow(image @ np.array(_LUMA), cmap="gray", vmin=0, vmax=1)
    drawn = axis.imshow(resized, cmap=COLOUR_MAP, vmin=low, vmax=high, alpha=OPACITY)
    axis.set_axis_off()
    _set_title(axis, title)
    return drawn


def draw_colour_bar(figure: Any, drawn: Any, axes: Any, quantity: str, **place: Any) -> Any:
    """Draws the colour bar of what was drawn beside some axes; returns its own axis."""
    bar = figure.colorbar(drawn, ax=axes, **place)
    bar.set_label(quantity, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return bar.ax
