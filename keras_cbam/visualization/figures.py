"""Draws what a model attends to, as figures of Matplotlib: attention maps and Grad-CAM.

Each function returns a `matplotlib.figure.Figure` and opens no window.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_cbam._types import Where
from keras_cbam.errors import require
from keras_cbam.visualization import panels
from keras_cbam.visualization.class_maps import ClassIndex, class_activation, class_of_each
from keras_cbam.visualization.colours import Scale, overlay
from keras_cbam.visualization.feature_gradients import Target
from keras_cbam.visualization.images import as_images, displayed
from keras_cbam.visualization.layer_maps import described_maps, is_untrained
from keras_cbam.visualization.panels import ClassNames
from keras_cbam.visualization.rows import (
    UNTRAINED,
    attention_rows,
    draw_rows,
    grad_cam_row,
    last_of_each_size,
    size_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention(model: keras.Model, image: Any, layers: Where | None = None) -> "Figure":
    """Shows what a model attends to: for each layer the image, its spatial map, and both.

    Map and overlay share one scale, whose ends are the map's extremes; of a gate that starts as an
    identity, `1 + s (M - 1)`, it diverges around 1, which changes nothing. Beside them stand the
    layer's place and name, the minimum, maximum and deviation of its gates, and all channel gates
    as one falling curve. "Stage 3" has an eighth of the input's height and width, its blocks are
    counted from 1. A map under 4 x 4 is told in numbers only.

    Args:
        model: `keras.Model` with attention layers and one input of images.
        image: array `(height, width)` or `(height, width, channels)` of pixels as the model takes
            them, see `attention_maps`; or a batch or list of such, each in rows of its own.
        layers: see `attention_maps`; each has a row. Defaults to `None`: the last layer at each
            resolution of the feature maps (or number of channels, where none has a spatial gate).

    Returns:
        A `matplotlib.figure.Figure`. (`%matplotlib inline` lets notebooks show it.)

    Raises:
        ValueError: see `attention_maps`.
        ImportError: if Matplotlib is not installed, as every function here.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> figure = plot_attention(model, np.zeros((224, 224, 3), "uint8"))
    >>> figure.savefig("attention.png")
    """
    rows = []
    for one in as_images(model, image):
        maps = described_maps(model, one[None], layers)
        rows += attention_rows(displayed(one), last_of_each_size(maps) if layers is None else maps)
    figure = panels.new_figure(*size_of(rows))
    if is_untrained(model):
        figure.suptitle(UNTRAINED, fontsize=9)
    draw_rows(figure, rows)
    return figure


def plot_grad_cam(
    model: keras.Model,
    image: Any,
    class_index: ClassIndex = None,
    layer: Target = None,
    class_names: ClassNames = None,
) -> "Figure":
    """Shows where a model sees a class: the image, its Grad-CAM map, and the map over it.

    For the arguments and errors see `compare_grad_cam`.

    Returns:
        A `matplotlib.figure.Figure`, a row for each image, with the class, its probability, and
        the layer whose feature maps were used.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> figure = plot_grad_cam(model, np.zeros((224, 224, 3), "uint8"), class_index=3)
    """
    images = as_images(model, image)
    classes = class_of_each(class_index, len(images))
    rows = []
    for row, one in enumerate(images):
        chosen = None if classes is None else int(classes[row])
        activation = class_activation(model, one[None], chosen, layer)
        panels.check_class_names(class_names, activation.probabilities.shape[1])
        label = panels.class_label(activation.classes[0], class_names)
        rows.append(grad_cam_row(displayed(one), label, activation, 0))
    figure = panels.new_figure(*size_of(rows))
    draw_rows(figure, rows)
    return figure


def compare_grad_cam(
    models: Mapping[str, keras.Model] | Sequence[keras.Model],
    images: Any,
    class_index: ClassIndex = None,
    layer: Target = None,
    class_names: ClassNames = None,
) -> "Figure":
    """Shows Grad-CAM maps of several models side by side, as figure 4 of the paper has them.

    Args:
        models: dict `{title: model}`, or list of models, whose names are the titles.
        images: one image or several, see `plot_attention`; one row for each.
        class_index: see `grad_cam`. Defaults to `None`: the class that each model predicts.
        layer: see `grad_cam`. Defaults to `None`: the last of each model of at least 7 x 7.
        class_names: list of strings. Defaults to `None`: classes are called by their number.

    Returns:
        A `matplotlib.figure.Figure`; above each map are the class, its probability, and the layer.

    Raises:
        ValueError, ImportError: see `grad_cam` and `plot_attention`.

    Example:

    >>> models = {
    ...     attention or "plain": attention_classifier("MobileNetV2", 10, attention, weights=None)
    ...     for attention in (None, "se", "cbam")
    ... }
    >>> figure = compare_grad_cam(models, np.zeros((2, 224, 224, 3), "uint8"))

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), section 4.3 and figure 4
    """
    if not isinstance(models, Mapping):
        models = {model.name: model for model in models}
    require(models, "There is no model to compare.", f"models={models!r}")
    images = as_images(next(iter(models.values())), images)
    classes = class_of_each(class_index, len(images))
    cells = []
    for row, image in enumerate(images):
        shown = displayed(image)
        cells.append([(shown, "image")])
        for title, model in models.items():
            chosen = None if classes is None else int(classes[row])
            activation = class_activation(model, image[None], chosen, layer)
            index, (probabilities,) = activation.classes[0], activation.probabilities
            panels.check_class_names(class_names, len(probabilities))
            label = f"{panels.class_label(index, class_names)}: {probabilities[index]:.2f}"
            size = " x ".join(map(str, activation.size[::-1]))
            texts = (title, label, f"{activation.layer}, {size}")
            text = "\n".join(panels.wrapped(text, panels.LINE_LENGTH - 4) for text in texts)
            cells[-1].append((overlay(shown, activation.maps[0], Scale(0, 1)), text))
    heights = [1.9 * min(row[0][0].shape[0] / row[0][0].shape[1], 2) for row in cells]
    heights = [
        h + 0.15 * max(text.count("\n") + 2 for _, text in r) for h, r in zip(heights, cells)
    ]
    figure = panels.new_figure(1.9 * (1 + len(models)) + 0.4, sum(heights))
    grid = figure.subplots(len(images), 1 + len(models), squeeze=False, height_ratios=heights)
    for axes, row in zip(grid, cells):
        for axis, (shown, text) in zip(axes, row):
            panels.draw_image(axis, shown, text)
        panels.draw_colour_bar(axes[-1], Scale(0, 1))
    return figure
