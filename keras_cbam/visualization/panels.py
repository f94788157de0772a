"""What all figures share: their resolution and colours, names of classes, images with a title."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cbam.errors import library, require
from keras_cbam.visualization.colours import DIVERGING, Scale, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ClassNames = Sequence[str] | None
# Dots an inch of every figure, also where it is saved without a `dpi` of its own.
DPI = 160
# The first two of Okabe and Ito's colours that stay distinct for colour-blind readers.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"
# Letters that fit above a column.
LINE_LENGTH = 28


def figure_class() -> "type[Figure]":
    """`matplotlib.figure.Figure`; without Matplotlib, an ImportError that says how to get it."""
    return library("matplotlib.figure", "plot").Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty `Figure` of that size in inches, which belongs to no window."""
    return figure_class()(figsize=(width, height), dpi=DPI, layout="constrained")


def class_label(index: int, class_names: ClassNames) -> str:
    """The name of a class, or its number."""
    return f"class {index}" if class_names is None else str(class_names[index])


def shortened(label: str) -> str:
    """The label, cut where it would fill the figure."""
    return label if len(label) <= LINE_LENGTH else f"{label[: LINE_LENGTH - 3]}..."


def wrapped(text: str, length: int = LINE_LENGTH) -> str:
    """The text in lines that fit a column."""
    return textwrap.fill(text, length)


def check_class_names(class_names: ClassNames, classes: int) -> None:
    """Raises ValueError unless there are no names, or one for each class."""
    count = classes if class_names is None else len(class_names)
    message = f"`class_names` must have a name for each of the {classes} classes."
    require(count == classes, message, f"{count} names")


def set_title(axis: Any, title: str) -> None:
    # A dollar sign in a name is no formula.
    axis.set_title(title, fontsize=8, parse_math=False)


def draw_image(axis: Any, image: np.ndarray, title: str) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_axis_off()
    set_title(axis, title)


def draw_colour_bar(axis: Any, scale: Scale) -> None:
    """Draws a colour bar as high as the image in `axis`, with the values at its ends."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(scale.low, scale.high), scale.colours)
    bar = axis.figure.colorbar(colours, cax=axis.inset_axes((1.05, 0, 0.06, 1)))
    ticks = [scale.low, *([1.0] if scale.colours == DIVERGING else []), scale.high]
    bar.set_ticks(ticks, labels=list(map(number, ticks)))
    bar.ax.tick_params(labelsize=7, length=2)
