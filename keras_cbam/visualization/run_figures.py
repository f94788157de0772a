"""Figures of trainings: learning curves, the confusion matrix, a comparison with intervals.

Each function returns a `matplotlib.figure.Figure` and opens no window.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_cbam.errors import require
from keras_cbam.visualization import panels
from keras_cbam.visualization.colours import number
from keras_cbam.visualization.panels import TRAINING_COLOUR, VALIDATION_COLOUR, ClassNames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Prefixes of metrics in a history, and how their curves are named and coloured.
_PARTS = {
    "": ("training", TRAINING_COLOUR),
    "val_": ("validation", VALIDATION_COLOUR),
}
# A confusion matrix of more classes has no numbers in its cells.
LARGEST_NUMBERED_MATRIX = 20


def plot_learning_curves(
    history: keras.callbacks.History | Mapping[str, Any],
    metrics: Sequence[str] = ("loss", "accuracy"),
) -> "Figure":
    """Shows metrics over the epochs, of the training and the validation data.

    Args:
        history: `keras.callbacks.History`, or dict of lists with one number for each epoch:
            `"loss"`, `"accuracy"`, `"val_loss"`, `"val_accuracy"`, as far as there are any.
        metrics: sequence of strings, those of them that there are are drawn. Defaults to
            `("loss", "accuracy")`.

    Returns:
        A `matplotlib.figure.Figure`; the last value of each curve stands at its end.

    Raises:
        ValueError: if the history has none of the metrics.

    Example:

    >>> figure = plot_learning_curves({"loss": [1.2, 0.8], "accuracy": [0.6, 0.7]})
    >>> len(figure.axes)
    2
    """
    history = history.history if isinstance(history, keras.callbacks.History) else history
    curves = {metric: [history.get(prefix + metric) for prefix in _PARTS] for metric in metrics}
    curves = {metric: own for metric, own in curves.items() if any(one is not None for one in own)}
    require(curves, f"The history has none of the metrics {list(metrics)}.", list(history))
    columns, rows = min(len(curves), 2), -(-len(curves) // 2)
    figure = panels.new_figure(3.6 * columns, 2.8 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis, (metric, own) in zip(grid.flat, curves.items()):
        given = [values for values in own if values is not None]
        for values, (label, colour) in zip(own, _PARTS.values()):
            if values is not None:
                places = range(1, len(values) + 1)
                axis.plot(places, values, color=colour, label=label, marker="o", markersize=3)
                # Of two ends the higher one has its number above.
                is_high = values[-1] >= max(other[-1] for other in given)
                place = {"textcoords": "offset points", "va": "bottom" if is_high else "top"}
                style = {"color": colour, "fontsize": 8, "ha": "left", **place}
                axis.annotate(number(values[-1]), (places[-1], values[-1]), (4, 0), **style)
        title = metric.capitalize().replace("_", " ")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        # Room for the numbers at the ends.
        last = max(map(len, given))
        axis.set_xlim(1 - 0.05 * last, last + 0.22 * max(last - 1, 0.5))
        axis.margins(y=0.15)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    for axis in grid.flat[len(curves) :]:
        axis.remove()
    return figure


def plot_confusion_matrix(matrix: Any, class_names: ClassNames = None) -> "Figure":
    """Shows which classes are taken for which: colours are parts of each true class.

    Args:
        matrix: int array `(classes, classes)` of numbers of images, rows the true and columns the
            predicted classes.
        class_names: list of strings. Defaults to `None`: classes are called by their number.

    Returns:
        A `matplotlib.figure.Figure`. Cells of 0 are blank. From 21 classes on it has no numbers.

    Raises:
        ValueError: if the matrix is not square and of counts, or the names are not as many.

    Example:

    >>> figure = plot_confusion_matrix([[8, 2], [1, 9]], ["cat", "dog"])
    """
    counts = np.asarray(matrix)
    is_square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] and counts.size
    require(is_square, "`matrix` must be square.", f"an array of shape {counts.shape}")
    is_count = np.isfinite(counts).all() and (counts >= 0).all()
    require(is_count, "`matrix` must hold numbers of images.", "negative or not finite ones")
    classes = len(counts)
    panels.check_class_names(class_names, classes)
    images = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, images, out=np.zeros(counts.shape), where=images > 0)
    is_numbered = classes <= LARGEST_NUMBERED_MATRIX
    labels = [panels.class_label(index, class_names) for index in range(classes)]
    names = list(map(panels.shortened, labels)) if is_numbered else []
    # The layout needs room to give to long names.
    room = 0.09 * max(map(len, names), default=8)
    side = 1.5 + 0.32 * classes if is_numbered else 5.5
    figure = panels.new_figure(side + room + 0.9, side + room)
    axis = figure.subplots()
    drawn = axis.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(drawn, cax=axis.inset_axes((1.04, 0, 0.04, 1)))
    bar.set_label("part of the true class", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    right, total = np.trace(counts), counts.sum()
    title = f"{right:g} of {total:g} images right, {right / max(total, 1):.1%}"
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("predicted class", fontsize=9)
    axis.set_ylabel("true class", fontsize=9)
    axis.tick_params(labelsize=8)
    if is_numbered:
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(classes), names, parse_math=False, **slanted)
        axis.set_yticks(range(classes), names, parse_math=False)
        for row, column in np.argwhere(counts):
            # Light letters on the dark end of the colours.
            colour = "white" if parts[row, column] > 0.6 else "black"
            text = f"{counts[row, column]}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    # A layout knows where the labels beside the names were placed before it.
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    for _ in range(2):
        figure.draw_without_rendering()
    return figure


def plot_comparison(
    values: Mapping[str, Sequence[float]], metric: str, differences: Sequence[Any]
) -> "Figure":
    """Shows a metric of trainings with each attention, a dot for each seed, and the differences.

    Args:
        values: for each attention the metric of each seed, in the same order of the seeds.
        metric: its name.
        differences: for each attention except the first an object with its `attention`, `mean` and
            `margin` (half of an interval, or `None`).

    Returns:
        A `matplotlib.figure.Figure`: on the left the metric, seeds joined by lines, the mean as a
        diamond; on the right the mean difference from the first, with its interval. Means stand
        beside their marks.

    Raises:
        ImportError: if Matplotlib is not installed.

    Example:

    >>> from keras_cbam.training.comparison import difference
    >>> values = {"none": [0.85, 0.86, 0.84], "cbam": [0.87, 0.87, 0.86]}
    >>> found = difference("cbam", values["cbam"], "none", values["none"])
    >>> figure = plot_comparison(values, "accuracy", [found])
    """
    first, *others = values
    figure = panels.new_figure(3.6 + 1.2 * len(values), 3.2)
    left, right = figure.subplots(1, 2, width_ratios=[len(values) + 1, len(others) + 1])
    places = np.arange(len(values))
    for seed in zip(*values.values()):
        left.plot(places, seed, "o-", color=TRAINING_COLOUR, alpha=0.4, markersize=4, linewidth=0.8)
    means = [np.mean(each) for each in values.values()]
    left.plot(places, means, "D", color=VALIDATION_COLOUR, markersize=7, label="mean")
    beside: Any = {"textcoords": "offset points", "fontsize": 8, "va": "center"}
    # Lines may pass below the numbers.
    beside["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    for place, mean in enumerate(means):
        left.annotate(f"{mean:.3f}", (place, mean), (7, 0), **beside)
    left.legend(fontsize=8)
    left.set_title("one line per seed", fontsize=9)
    left.set_ylabel(metric)
    right.axhline(0, color="black", linewidth=0.8)
    style: Any = {"fmt": "D", "color": VALIDATION_COLOUR, "capsize": 5}
    for place, one in enumerate(differences):
        right.errorbar(place, one.mean, yerr=one.margin, **style)
        text = f"{one.mean:+.3f}" + ("" if one.margin is None else f"\n± {one.margin:.3f}")
        right.annotate(text, (place, one.mean), (8, 0), **beside)
    title = "one seed" if differences[0].margin is None else "95 % interval"
    right.set_title(title, fontsize=9)
    right.set_ylabel(f"{metric} minus that of {first}")
    for axis, names in ((left, list(values)), (right, others)):
        axis.set_xticks(range(len(names)), names, parse_math=False)
        axis.set_xlim(-0.5, len(names) - 0.5)
        axis.grid(axis="y", alpha=0.3)
    return figure
