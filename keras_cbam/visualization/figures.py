"""Draws what a model learned and attends to, as figures of Matplotlib.

Each function returns a `matplotlib.figure.Figure` and opens no window.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_cbam._types import Where
from keras_cbam.errors import require
from keras_cbam.visualization import panels
from keras_cbam.visualization.class_maps import ClassIndex, class_activation, class_of_each
from keras_cbam.visualization.feature_gradients import Target
from keras_cbam.visualization.images import as_images, displayed
from keras_cbam.visualization.layer_maps import attention_maps, is_untrained
from keras_cbam.visualization.panels import ClassNames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A confusion matrix of more classes has no numbers in its cells.
LARGEST_NUMBERED_MATRIX = 20


def plot_attention(model: keras.Model, image: Any, layers: Where | None = None) -> "Figure":
    """Shows what a model attends to: spatial maps over the image, and the strongest channels.

    Attention that starts as an identity and was not trained yet has flat maps; the figure says so.

    Args:
        model: `keras.Model` with attention layers and one input of images.
        image: array `(height, width)` or `(height, width, channels)` of pixels as the model takes
            them, see `attention_maps`; or a batch or list of such, each in rows of its own.
        layers: see `attention_maps`; each has a column. Defaults to `None`: the last layer at each
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
    images = as_images(model, image)
    rows = [attention_maps(model, image[None], layers) for image in images]
    if layers is None:
        rows = [panels.last_of_each_size(maps) for maps in rows]
    columns, height = 1 + len(rows[0]), panels.attention_height(rows[0])
    figure = panels.new_figure(2.5 * columns, height * len(rows))
    for part, image, maps in zip(panels.split(figure, len(rows)), images, rows):
        panels.draw_attention(part, displayed(image), maps, is_untrained(model))
    return figure


def plot_grad_cam(
    model: keras.Model,
    image: Any,
    class_index: ClassIndex = None,
    layer: Target = None,
    class_names: ClassNames = None,
) -> "Figure":
    """Shows where a model sees a class: the image, and its Grad-CAM map over it.

    The arguments and the figure are those of `compare_grad_cam`, for one model.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> figure = plot_grad_cam(model, np.zeros((224, 224, 3), "uint8"), class_index=3)
    """
    return compare_grad_cam({"Grad-CAM": model}, image, class_index, layer, class_names)


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
        layer: see `grad_cam`. Defaults to `None`: the last with space of each model.
        class_names: list of strings. Defaults to `None`: classes are called by their number.

    Returns:
        A `matplotlib.figure.Figure`; above each map are the class and its probability.

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
    figure = panels.new_figure(2.4 * (1 + len(models)) + 0.8, 2.6 * len(images) + 0.3)
    grid = figure.subplots(len(images), 1 + len(models), squeeze=False)
    for row, image in enumerate(images):
        shown = displayed(image)
        panels.draw_image(grid[row, 0], shown, "image")
        for axis, (title, model) in zip(grid[row, 1:], models.items()):
            chosen = None if classes is None else int(classes[row])
            activation = class_activation(model, image[None], chosen, layer)
            index, (probabilities,) = activation.classes[0], activation.probabilities
            panels.check_class_names(class_names, len(probabilities))
            label = f"{panels.class_label(index, class_names)}: {probabilities[index]:.2f}"
            title = "\n".join(map(panels.wrapped, (title, label)))
            drawn = panels.draw_overlay(axis, shown, activation.maps[0], title, limits=(0, 1))
    panels.draw_colour_bar(figure, drawn, grid, "Grad-CAM, relative to its maximum", fraction=0.03)
    return figure


def plot_learning_curves(
    history: keras.callbacks.History | Mapping[str, Any],
    metrics: Sequence[str] = ("loss", "accuracy"),
) -> "Figure":
    """Shows metrics over the epochs, of the training and the validation data.

    Args:
        history: `keras.callbacks.History`, or dict of lists with one number for each epoch:
            `"loss"`, `"accuracy"`, `"val_loss"`, `"val_accuracy"`, as far as there are any.
        metrics: sequence of strings, which of them are drawn. Defaults to `("loss", "accuracy")`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> figure = plot_learning_curves({"loss": [1.2, 0.8], "accuracy": [0.6, 0.7]})
    >>> len(figure.axes)
    2
    """
    history = history.history if isinstance(history, keras.callbacks.History) else history
    figure = panels.new_figure(4.5 * len(metrics), 3.6)
    (axes,) = figure.subplots(1, len(metrics), squeeze=False)
    for axis, metric in zip(axes, metrics):
        title = metric.capitalize().replace("_", " ")
        for prefix, label, colour in (
            ("", "training", panels.TRAINING_COLOUR),
            ("val_", "test", panels.VALIDATION_COLOUR),
        ):
            values = history.get(prefix + metric)
            if values is not None and len(values):
                epochs = range(1, len(values) + 1)
                axis.plot(epochs, values, color=colour, label=label, marker="o", markersize=3)
        axis.set(title=title, xlabel="Epoch", ylabel=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend()
    return figure


def plot_confusion_matrix(matrix: Any, class_names: ClassNames = None) -> "Figure":
    """Shows which classes are taken for which: colours are parts of each true class.

    Args:
        matrix: int array `(classes, classes)` of numbers of images, rows the true and columns the
            predicted classes.
        class_names: list of strings. Defaults to `None`: classes are called by their number.

    Returns:
        A `matplotlib.figure.Figure`. From 21 classes on it has no numbers.

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
    side = 1.5 + 0.45 * min(classes, LARGEST_NUMBERED_MATRIX)
    figure = panels.new_figure(side + room + 1, side + room)
    axis = figure.subplots()
    drawn = axis.imshow(parts, cmap=panels.COLOUR_MAP, vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axis, label="part of the true class", fraction=0.046)
    axis.set(xlabel="predicted class", ylabel="true class", title="Confusion matrix")
    if is_numbered:
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axis.set_xticks(range(classes), names, parse_math=False, **slanted)
        axis.set_yticks(range(classes), names, parse_math=False)
        for row, column in np.ndindex(counts.shape):
            # Dark letters on the light end of the colours.
            colour = "black" if parts[row, column] > 0.6 else "white"
            text = f"{counts[row, column]}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    # The first layout places the axis label before it knows the names beside it.
    figure.draw_without_rendering()
    return figure
