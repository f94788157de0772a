"""Runs a classifier, and takes the gradients of its class scores to the feature maps of a layer."""

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_cbam.errors import listed, near_names, require
from keras_cbam.insertion.graph import data_format
from keras_cbam.visualization.calls import ensure_built, find_operations, hooked, replaced
from keras_cbam.visualization.images import to_float32

# Layers that are not a target by default: models have inner layers, and padding moves positions.
_PASSED_OVER = (
    *(keras.Model, layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
)
# What may stand between the scores and the end of a model without changing them.
_PASSING = (layers.Dropout, layers.Flatten, layers.Identity, layers.Reshape)
# Functions and operations that turn logits to probabilities; TensorFlow has its own `softmax_v2`.
_SQUASHING = {"softmax": "Softmax", "softmax_v2": "Softmax", "sigmoid": "Sigmoid"}
_SMALLEST = 1e-30
# Positions along each axis of the feature maps that are taken where there are such.
LEAST_POSITIONS = 7
# A layer, its name or its path; None for the last one.
Target = str | keras.layers.Layer | None


class FeatureGradients:
    """The feature maps of a layer, the logits of a classifier, and the gradient between them.

    Args:
        model: `keras.Model`.
        batch: its inputs, whose first example is used to find the layer.
        layer: name, path, layer or `None`, see `grad_cam`.
        rank: int, number of spatial axes of the feature maps.
    """

    def __init__(self, model: keras.Model, batch: Any, layer: Target, rank: int) -> None:
        ensure_built(model, batch)
        self.model, self.rank = model, rank
        self.operations = find_operations(model)
        calls, scores = self._record(keras.tree.map_structure(lambda array: array[:1], batch))
        # Of several calls, the last one counts.
        outputs = dict(calls)
        with_maps = [operation for operation, one in outputs.items() if self._are_maps(one)]
        self.target = self._last(calls) if layer is None else self._named(layer, with_maps)
        self.is_first = self._is_channels_first(self.target)
        self.maps_shape = tuple(outputs[self.target].shape[1:])
        self.size = self.maps_shape[1:] if self.is_first else self.maps_shape[:-1]
        (self.layer,) = (name for name, one in self.operations.items() if one is self.target)
        self.target_calls = [operation for operation, _ in calls].count(self.target)
        self.end = _squashing_end(calls)
        self.is_single = scores.shape[1] == 1
        self.classes = 2 if self.is_single else scores.shape[1]
        # Probabilities, by an operation that cannot be left out: their logarithms are logits.
        is_one = (scores >= 0).all() and np.allclose(scores.sum(), 1, atol=1e-2)
        self.are_probabilities = self.end is None and not self.is_single and is_one

    def _record(self, batch):
        """`(operation, outputs)` of every call, inner before outer; and the scores."""
        calls = []

        def record(operation, call, *args, **kwargs):
            outputs = call(*args, **kwargs)
            calls.append((operation, outputs))
            return outputs

        operations = self.operations.values()
        with hooked([(one, functools.partial(record, one)) for one in operations]):
            scores = self.model(batch, training=False)
        shapes = [tuple(one.shape) for one in keras.tree.flatten(scores)]
        require(
            len(getattr(scores, "shape", ())) == 2,
            "Grad-CAM needs a model with one output of class scores, (batch, classes).",
            f"a model with outputs of the shapes {shapes} for one image",
        )
        return calls, to_float32(scores)

    def _are_maps(self, outputs):
        is_map = len(getattr(outputs, "shape", ())) == self.rank + 2
        return is_map and "float" in str(outputs.dtype)

    def _named(self, layer, with_maps):
        is_name = isinstance(layer, str)
        found = {
            path: operation
            for path, operation in self.operations.items()
            if (layer in (path, operation.name) if is_name else operation is layer)
        }
        if not found:
            names = [path for path, one in self.operations.items() if one in with_maps]
            near = near_names(layer, names) if is_name else f"It has {listed(names)}."
            problem = f"The model has no such layer. {near}"
        elif len(found) > 1:
            problem = f"Several layers have this name: pass one of {listed(found)}."
        else:
            (target,) = found.values()
            if target in with_maps:
                return target
            problem = f"`layer` must have feature maps {self._shape()}."
        raise ValueError(f"{problem} Received: layer={layer!r}")

    def _last(self, calls):
        sizes = {}
        for operation, outputs in calls:
            if self._are_maps(outputs) and not isinstance(operation, _PASSED_OVER):
                is_first = self._is_channels_first(operation)
                # The last call of a layer counts, and its place among the others.
                sizes.pop(operation, None)
                sizes[operation] = outputs.shape[2:] if is_first else outputs.shape[1:-1]
        large = [operation for operation, size in sizes.items() if min(size) >= LEAST_POSITIONS]
        with_space = [operation for operation, size in sizes.items() if math.prod(size) > 1]
        if not with_space:
            raise ValueError(
                f"Grad-CAM needs a model with a layer of feature maps {self._shape()}. "
                f"Received: {self.model!r}"
            )
        return (large or with_space)[-1]

    def _shape(self):
        space = {1: "steps", 2: "height, width"}.get(self.rank, "depth, height, width")
        return f"(batch, {space}, channels)"

    def _is_channels_first(self, operation):
        own_format = getattr(operation, "data_format", None)
        return (own_format or data_format(self.model)) == "channels_first"

    def __call__(self, batch: Any, classes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Feature maps, gradients to them of logits of `classes` or the likeliest, all logits."""

        def score(change):
            features, calls = [], []

            def changed(call, *args, **kwargs):
                outputs = call(*args, **kwargs)
                calls.append(outputs)
                if len(calls) != self.target_calls:
                    return outputs
                features.append(outputs)
                return ops.cast(ops.cast(outputs, "float32") + change, outputs.dtype)

            logits = self._logits(batch, changed)
            chosen = ops.argmax(logits, axis=1) if classes is None else classes
            chosen = ops.one_hot(chosen, logits.shape[1])
            return ops.sum(logits * chosen), (features[0], logits)

        shape = (len(keras.tree.flatten(batch)[0]), *self.maps_shape)
        gradient, (features, logits) = _gradient(score, np.zeros(shape, "float32"))
        logits = to_float32(logits)
        count = np.count_nonzero(~np.isfinite(logits))
        require(not count, "The scores of the model are not finite.", f"{count} such scores")
        maps = [to_float32(features), to_float32(gradient)]
        features, gradient = (np.moveaxis(one, 1, -1) if self.is_first else one for one in maps)
        return features, gradient, logits

    def _logits(self, batch, at_target) -> Any:
        hooks = [(self.target, at_target)]
        if self.end is not None:
            hooks.append((self.end, functools.partial(_without_squashing, self.end)))
        with hooked(hooks):
            scores: Any = ops.cast(self.model(batch, training=False), "float32")
        if self.is_single:
            # Their softmax is the sigmoid of the score.
            return ops.concatenate([-scores / 2, scores / 2], axis=1)
        return ops.log(ops.maximum(scores, _SMALLEST)) if self.are_probabilities else scores

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """The probabilities of all classes."""
        if _squashes(self.end) == "Sigmoid" and not self.is_single:
            return 1 / (1 + np.exp(-logits))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def _squashes(operation):
    """`"Softmax"` or `"Sigmoid"` if that is the last thing that the operation does."""
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return _SQUASHING.get(getattr(activation, "__name__", ""))
    name = type(operation).__name__
    return name if name in _SQUASHING.values() else None


def _squashing_end(calls):
    """The operation that squashes the scores at the end of the model, or `None`."""
    previous = [None, *(outputs for _, outputs in calls[:-1])]
    for (operation, outputs), before in zip(reversed(calls), reversed(previous)):
        if outputs is before:
            # A layer around the one that was called before it.
            continue
        if _squashes(operation):
            return operation
        is_activation = isinstance(operation, layers.Activation)
        is_linear = is_activation and operation.activation is keras.activations.linear
        if not is_linear and not isinstance(operation, _PASSING):
            return None
    return None


def _without_squashing(operation, call, *args, **kwargs):
    """Calls the operation without its softmax or sigmoid."""
    if getattr(operation, "activation", None) is None:
        return [*args, *kwargs.values()][0]
    with replaced(operation, activation=keras.activations.linear):
        return call(*args, **kwargs)


def _gradient(function, point) -> Any:
    """The gradient of a function of one array, and what it returns beside its value."""
    backend = keras.backend.backend()
    given: Any = ops.convert_to_tensor(point)
    if backend == "tensorflow":
        import tensorflow as tf

        # Of the weights no gradient is needed.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(given)
            value, others = function(given)
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(value, given, unconnected_gradients=zero), others
    if backend == "jax":
        import jax

        # What layers add to the losses of the model must not stay there as tracers.
        with keras.StatelessScope(collect_losses=True):
            return jax.grad(function, has_aux=True)(given)
    if backend == "torch":
        import torch

        given = given.detach().requires_grad_()
        with torch.enable_grad():
            value, others = function(given)
            return torch.autograd.grad(value, given, materialize_grads=True)[0], others
    raise ValueError(f"Grad-CAM has no gradients on the backend {backend!r}.")
