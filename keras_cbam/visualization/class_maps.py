"""Grad-CAM: maps of where a classifier sees a class, as arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_cbam.errors import require
from keras_cbam.visualization.feature_gradients import FeatureGradients, Target
from keras_cbam.visualization.images import batches, model_inputs, resized_map

# One for all images, or one for each; None for the predicted ones.
ClassIndex = int | Sequence[int] | np.ndarray | None


class ClassActivation(NamedTuple):
    """Grad-CAM maps and what they are of, see `class_activation`.

    Attributes:
        maps: float32 array, as `grad_cam` returns.
        classes: int array `(batch,)`, the class of each map.
        probabilities: float array `(batch, classes)`.
        layer: string, path of the layer whose feature maps were used.
        size: tuple, the size of these feature maps, `(height, width)` of images.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    layer: str
    size: tuple[int, ...]


def grad_cam(
    model: keras.Model,
    images: Any,
    class_index: ClassIndex = None,
    layer: Target = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Where images speak for a class: gradient-weighted class activation maps.

    For the feature maps `A[k]` of a layer and the score `y` of a class before its softmax or
    sigmoid,

    ```
    a[k] = mean over space of dy / dA[k]
    map  = relu(sum over k of a[k] * A[k])
    ```

    divided by its maximum, unless that is 0, and resized (bilinear) to the size of the image. Where
    the softmax is hidden in the code of a layer or model, the logarithms of the probabilities stand
    for `y`. A single score speaks for the class 1, and its negative for the class 0.

    Args:
        model: `keras.Model` of any kind, from images to one score for each class, as logits or
            after a softmax or sigmoid; it may have further inputs. Sequences `(batch, steps,
            channels)`, or of tokens, and volumes `(batch, depth, height, width, channels)` are
            images too.
        images: see `attention_maps`.
        class_index: int, or a sequence with one for each image. Defaults to `None`: the class that
            the model predicts.
        layer: the layer whose feature maps are used: its name, its path `<model>/<layer>` in
            nested models, or itself. Defaults to `None`: the last of at least 7 x 7 positions
            or, where none has as many, the last of more than one. `class_activation` and
            `plot_grad_cam` tell its name.
        batch_size: int, images at once. Defaults to `32`.

    Returns:
        float32 array `(batch, height, width)` in [0, 1], at the size of the given images; of
        sequences `(batch, steps)`, of volumes `(batch, depth, height, width)`.

    Raises:
        ValueError: if the images do not fit the model, a class or layer does not exist, the
            layer has no feature maps of as many axes as the images, or the model does not end in
            finite class scores.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> grad_cam(model, np.zeros((2, 224, 224, 3))).shape
    (2, 224, 224)

    Reference:

    - [Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
      Localization, ICCV 2017](https://arxiv.org/abs/1610.02391), equations 1 and 2
    """
    return class_activation(model, images, class_index, layer, batch_size).maps


def class_activation(
    model: keras.Model,
    images: Any,
    class_index: ClassIndex = None,
    layer: Target = None,
    batch_size: int = 32,
) -> ClassActivation:
    """Computes Grad-CAM maps with their classes, the probabilities, and the layer that was used.

    For the arguments and errors see `grad_cam`.

    Returns:
        A `ClassActivation`, a named tuple `(maps, classes, probabilities, layer, size)`.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> class_activation(model, np.zeros((2, 224, 224, 3))).size
    (7, 7)
    """
    inputs, size = model_inputs(model, images)
    chosen = class_of_each(class_index, len(keras.tree.flatten(inputs)[0]))
    network: Any = None
    parts, done = [], 0
    for batch in batches(inputs, batch_size):
        network = network or FeatureGradients(model, batch, layer, len(size))
        last = network.classes - 1
        require(
            chosen is None or np.isin(chosen, range(last + 1)).all(),
            f"`class_index` must be from 0 to {last}, the classes of the model.",
            f"class_index={class_index!r}",
        )
        classes = None if chosen is None else chosen[done : done + batch_size]
        done += batch_size
        features, gradient, logits = network(batch, classes)
        space = tuple(range(1, features.ndim - 1))
        weights = gradient.mean(axis=space, keepdims=True)
        maps = np.maximum((weights * features).sum(axis=-1), 0)
        highest = maps.max(axis=space, keepdims=True)
        maps = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
        maps = np.clip(np.stack([resized_map(one, size) for one in maps]), 0, 1)
        classes = logits.argmax(axis=1) if classes is None else classes
        parts.append((maps, classes, network.probabilities(logits)))
    maps, classes, probabilities = (np.concatenate(part) for part in zip(*parts))
    return ClassActivation(maps, classes, probabilities, network.layer, network.size)


def class_of_each(class_index: ClassIndex, count: int) -> np.ndarray | None:
    """The class of each of `count` images as an int array, `None` for those that are predicted."""
    if class_index is None:
        return None
    indices = np.asarray(class_index)
    received = f"class_index={class_index!r}, {indices.size} classes for {count} images"
    is_right = indices.ndim < 2 and np.issubdtype(indices.dtype, np.integer)
    require(is_right, "`class_index` must be an integer, a sequence of integers or None.", received)
    is_right = indices.ndim == 0 or len(indices) == count
    require(is_right, "`class_index` must have one class for each of the images.", received)
    return np.broadcast_to(indices, count)
