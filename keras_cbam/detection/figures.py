"""Figures of detectors. Each function returns a `Figure` and shows nothing on screen."""

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_cbam.detection.metrics.coco_metrics import Detections
from keras_cbam.errors import require
from keras_cbam.visualization import panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Columns of images or of curves in a figure.
COLUMNS = 4
# Classes that have a panel of their own in a figure of curves.
MOST_CURVES = 20
# Okabe and Ito's colours, which stay distinct for colour-blind readers, and three more.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_COLOURS += ("#8B4513", "#5D3FD3", "#00E5C0")
# Points: letters of a label, and the width of one by their height.
_LETTERS, _LETTER_WIDTH, _LINE_HEIGHT = 7, 0.62, 1.5
_INCH = 72


def plot_detections(
    images: Sequence[np.ndarray],
    detections: Detections,
    class_names: list[str] | None,
    truth: Sequence[tuple] | None = None,
    threshold: float = 0.5,
) -> "Figure":
    """Images with the boxes that were found in them, and above these with the true ones.

    Args:
        images: sequence of uint8 arrays `(height, width, 3)`.
        detections: list of a dict for each image, see `predict_detections`.
        class_names: list of strings, or `None`: classes are called by their number.
        truth: list of pairs of arrays, boxes `(boxes, 4)` and classes `(boxes,)`. Defaults to
            `None`: only what was found is drawn.
        threshold: float, boxes of a lower confidence are not drawn. Defaults to `0.5`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.
        ValueError: if there is no image.

    Example:

    >>> scenes = clothing_scenes(4, "test")
    >>> found = predict_detections(model, scenes, 96)
    >>> plot_detections(scenes.images, found, scenes.class_names).savefig("detections.png")
    """
    require(len(images), "`images` must have an image.", "no image")
    columns, kinds = min(COLUMNS, len(images)), 1 if truth is None else 2
    rows = kinds * -(-len(images) // columns)
    width = 8.0 if len(images) == 1 else 3.0
    # Of the highest shape there is: an axis is no smaller than its image.
    height = width * min(max(image.shape[0] / image.shape[1] for image in images), 1.5)
    figure = panels.new_figure(width * columns, (height + 0.3) * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()

    def draw(row, index, title, boxes, classes, confidence=None):
        axis, image = grid[kinds * (index // columns) + row, index % columns], images[index]
        labels = [panels.shortened(panels.class_label(kind, class_names)) for kind in classes]
        if confidence is not None:
            labels = [f"{label} {score:.2f}" for label, score in zip(labels, confidence)]
        panels.draw_image(axis, image, f"{title}: {len(classes)}")
        scale = _INCH * min(width / image.shape[1], height / image.shape[0])
        _draw_boxes(axis, image, boxes, classes, labels, scale)

    for index, found in enumerate(detections):
        if truth is not None:
            draw(0, index, "objects", *truth[index])
        is_drawn = np.asarray(found["confidence"]) >= threshold
        arrays = [np.asarray(found[key])[is_drawn] for key in ("boxes", "classes", "confidence")]
        draw(kinds - 1, index, f"found at {threshold:g} or more", *arrays)
    return figure


def class_colour(index: int) -> tuple[float, float, float]:
    """The colour of a class' boxes, red, green and blue in [0, 1]."""
    from matplotlib.colors import to_rgb

    if index < len(_COLOURS):
        return to_rgb(_COLOURS[index])
    # Steps by the golden ratio: hues far from those before.
    return colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, 0.85)


def _draw_boxes(axis, image, boxes, classes, labels, scale):
    """`scale` is in points of the figure for a pixel."""
    from matplotlib.patches import Rectangle

    taken = []
    for (left, top, right, bottom), kind, label in zip(np.asarray(boxes).tolist(), classes, labels):
        colour = class_colour(int(kind))
        # Pixel 0 is drawn from -0.5 to 0.5.
        corner, style = (left - 0.5, top - 0.5), {"fill": False, "edgecolor": colour, "lw": 1.6}
        axis.add_patch(Rectangle(corner, right - left, bottom - top, **style))
        size = np.array([_LETTER_WIDTH * len(label) + 0.5, _LINE_HEIGHT]) * _LETTERS / scale
        place = _place((left, top, right, bottom), size, image.shape, taken)
        taken.append([*place, *(place + size)])
        is_light = np.dot(colour, (0.299, 0.587, 0.114)) > 0.55
        ground = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.9}
        style = {"color": "black" if is_light else "white", "bbox": ground, "clip_on": True}
        style |= {"fontsize": _LETTERS, "va": "center", "parse_math": False}
        axis.text(place[0], place[1] + size[1] / 2, label, **style)


def _place(box, size, shape, taken):
    """The corner of a label, inside the image and, where it can be, on no other label."""
    (left, top, right, bottom), (width, height) = box, size
    places = [(left, y) for y in (top - height, top, bottom, bottom - height)]
    places += [(right - width, y) for y in (top, bottom - height)]
    places += [(left, top + (i + 1) * height) for i in range(8)]
    places = np.clip(places, 0, np.maximum((shape[1] - width, shape[0] - height), 0))
    others = np.reshape(taken, (-1, 4))

    def covered(place):
        sides = np.minimum(place + size, others[:, 2:]) - np.maximum(place, others[:, :2])
        return np.maximum(sides, 0).prod(axis=1).sum()

    # The first of the least covered.
    return min(places, key=covered)


def plot_precision_recall(curves: dict[str, np.ndarray]) -> "Figure":
    """Precision by recall of each class in a panel of its own, at an overlap of .5 of boxes.

    Args:
        curves: `{class name: float array (101,)}`, see `precision_recall`.

    Returns:
        A `matplotlib.figure.Figure`. Titles give the average precision, AP50. The first panel is
        the mean of all classes, a grey line in the others, which go from the best class to the
        worst. Of more than 20 classes the best ten and the worst ten are drawn.

    Raises:
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.

    Example:

    >>> figure = plot_precision_recall({"cat": np.linspace(1, 0, 101)})
    """
    best, half = sorted(curves, key=lambda name: -curves[name].mean()), MOST_CURVES // 2
    drawn = best if len(best) <= MOST_CURVES else best[:half] + best[-half:]
    recall = np.linspace(0, 1, 101)
    mean = np.mean([curves[name] for name in best], axis=0) if best else 0 * recall
    titles = [f"mean of {len(best)} classes", *drawn]
    columns = min(COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = panels.new_figure(max(2.1 * columns + 0.4, 4.0), 1.8 * rows + 0.6)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, (axis, title) in enumerate(zip(grid.flat, titles)):
        curve, colour = (curves[title], panels.TRAINING_COLOUR) if place else (mean, "black")
        axis.plot(recall, mean, color="grey", lw=0.8)
        axis.plot(recall, curve, color=colour, lw=1.5)
        axis.fill_between(recall, curve, color=colour, alpha=0.12, lw=0)
        precision = f" {curve.mean():.2f}" if best else ""
        panels.set_title(axis, panels.shortened(title) + precision)
        axis.set(xlim=(0, 1), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        # The lowest panel of a column may be missing.
        axis.tick_params(labelsize=7, labelbottom=place + columns >= len(titles))
        axis.grid(alpha=0.3)
    for axis in grid.flat[len(titles) :]:
        axis.remove()
    cut = f", {half} best and {half} worst classes" if len(drawn) < len(best) else ""
    figure.suptitle(f"Precision by recall, and AP50{cut}", fontsize=10)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure
