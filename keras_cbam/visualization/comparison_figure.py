"""The figure of a comparison: a metric with each attention, and the differences with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_cbam.visualization.panels import TRAINING_COLOUR, VALIDATION_COLOUR, new_figure


def plot_comparison(
    values: Mapping[str, Sequence[float]], metric: str, differences: Sequence[Any]
) -> Any:
    """Shows a metric of trainings with each attention, a dot for each seed, and the differences.

    Args:
        values: for each attention the metric of each seed, in the same order of the seeds.
        metric: its name.
        differences: for each attention except the first an object with its `attention`, `mean` and
            `margin` (half of an interval, or `None`).

    Returns:
        A `matplotlib.figure.Figure`: on the left the metric, seeds joined by lines, the mean as a
        diamond; on the right the mean difference from the first, with its interval.

    Raises:
        ImportError: if Matplotlib is not installed.

    Example:

    >>> from keras_cbam.training.comparison import difference
    >>> values = {"none": [0.85, 0.86, 0.84], "cbam": [0.87, 0.87, 0.86]}
    >>> found = difference("cbam", values["cbam"], "none", values["none"])
    >>> figure = plot_comparison(values, "accuracy", [found])
    """
    first, *others = values
    figure = new_figure(3.6 + 1.2 * len(values), 3.6)
    left, right = figure.subplots(1, 2, width_ratios=[len(values) + 1, len(others) + 1])
    places = np.arange(len(values))
    for seed in zip(*values.values()):
        left.plot(places, seed, "o-", color=TRAINING_COLOUR, alpha=0.4, markersize=4, linewidth=0.8)
    means = [np.mean(each) for each in values.values()]
    left.plot(places, means, "D", color=VALIDATION_COLOUR, markersize=7, label="mean")
    left.legend(fontsize=8)
    left.set_title("one line per seed", fontsize=9)
    left.set_ylabel(metric)
    right.axhline(0, color="black", linewidth=0.8)
    style: Any = {"fmt": "D", "color": VALIDATION_COLOUR, "capsize": 5}
    for place, one in enumerate(differences):
        right.errorbar(place, one.mean, yerr=one.margin, **style)
    title = "one seed" if differences[0].margin is None else "95 % interval"
    right.set_title(title, fontsize=9)
    right.set_ylabel(f"{metric} minus that of {first}")
    for axis, names in ((left, list(values)), (right, others)):
        axis.set_xticks(range(len(names)), names, parse_math=False)
        axis.set_xlim(-0.5, len(names) - 0.5)
        axis.grid(axis="y", alpha=0.3)
    return figure
