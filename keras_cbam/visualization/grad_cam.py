"""Grad-CAM: where a classifier sees its class."""

import numbers
import typing

import numpy as np

from keras_cbam.visualization.feature_gradients import FeatureGradients
from keras_cbam.visualization.images import batches, model_inputs, picture_size, resized_map


class ClassActivation(typing.NamedTuple):
    """Grad-CAM maps with the classes that they are of.

    Attributes:
        maps: float32 array `(batch, height, width)` in [0, 1].
        classes: int array `(batch,)`.
        probabilities: float array `(batch, all classes)`.
    """

    maps: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray


def grad_cam(model, images, class_index=None, layer=None, batch_size=32):
    """Where the pictures speak for a class: gradient-weighted class activation maps.

    For the feature maps `A[k]` of a layer and the score `y` of a class before its softmax or
    sigmoid,

    ```
    a[k] = mean over space of dy / dA[k]
    map  = relu(sum over k of a[k] * A[k])
    ```

    divided by its maximum and resized (bilinear) to the size of the picture. A map is all zeros
    where nothing speaks for the class. Where the scores are probabilities by a softmax that is not
    the activation of a layer, a layer or an operation of the graph, their logarithms stand for `y`.
    A model with one score a picture has the classes 1, for
    which the score speaks, and 0, for which its negative does.

    Args:
        model: `keras.Model` of any kind, from pictures to one score for each class, as logits or
            after a softmax or sigmoid; it may have further inputs.
        images: see `attention_maps`.
        class_index: int, or a sequence of them, one for each picture. Defaults to `None`: the class
            that the model predicts.
        layer: the layer whose feature maps are used: its name, its path `<model>/<layer>` in
            nested models, or the layer itself. Defaults to `None`: the last with more than one
            position in space.
        batch_size: int, pictures at once. Defaults to `32`.

    Returns:
        float32 array `(batch, height, width)` in [0, 1], at the size of the given pictures.

    Raises:
        ValueError: if the pictures do not fit the model, a class or layer does not exist, the
            layer has no feature maps `(batch, height, width, channels)`, the model does not end in
            class scores or they are not finite.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> grad_cam(model, np.zeros((2, 224, 224, 3))).shape
    (2, 224, 224)

    Reference:

    - [Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
      Localization, ICCV 2017](https://arxiv.org/abs/1610.02391), equations 1 and 2
    """
    return class_activation(model, images, class_index, layer, batch_size).maps


def class_activation(model, images, class_index=None, layer=None, batch_size=32):
    """As `grad_cam`, with the classes and their probabilities: a `ClassActivation`."""
    inputs = model_inputs(model, images)
    size = picture_size(model, images)
    parts = []
    network = None
    done = 0
    for batch in batches(inputs, batch_size):
        network = network or FeatureGradients(model, batch, layer)
        features, scores = network.forward(batch)
        classes = _classes(class_index, scores, done)
        gradient = network.gradient(batch, features.shape, classes)
        weights = gradient.mean(axis=(1, 2), keepdims=True)
        maps = np.maximum((weights * features).sum(axis=-1), 0)
        highest = maps.max(axis=(1, 2), keepdims=True)
        maps = np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)
        maps = np.clip(np.stack([resized_map(one, size) for one in maps]), 0, 1)
        parts.append((maps, classes, network.probabilities(scores)))
        done += len(classes)
    _check_length(class_index, done)
    return ClassActivation(*(np.concatenate(part) for part in zip(*parts)))


def _classes(class_index, scores, done):
    """The class of each picture of this batch, the first of which is picture number `done`."""
    count, known = scores.shape
    if class_index is None:
        return scores.argmax(axis=1)
    indices = np.asarray(class_index)
    is_integer = isinstance(class_index, numbers.Integral) and not isinstance(class_index, bool)
    if not is_integer and (indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer)):
        raise ValueError(
            "`class_index` must be an integer, a sequence of integers or None. "
            f"Received: class_index={class_index!r}"
        )
    if not indices.size or indices.min() < 0 or indices.max() >= known:
        raise ValueError(
            f"`class_index` must be from 0 to {known - 1}, the classes of the model. "
            f"Received: class_index={class_index!r}"
        )
    if is_integer:
        return np.full(count, int(class_index))
    indices = indices[done : done + count]
    _check_length(indices, count)
    return indices


def _check_length(class_index, count):
    if class_index is not None and np.ndim(class_index) and len(class_index) != count:
        raise ValueError(
            f"`class_index` must have one class for each of the pictures. "
            f"Received: {len(class_index)} classes for {count} pictures"
        )
