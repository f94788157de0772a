"""Feature maps and class scores of a classifier, and the gradients between them."""

import math

import keras
import numpy as np
from keras import ops

from keras_cbam.errors import near_names
from keras_cbam.insertion.graph import data_format
from keras_cbam.visualization.calls import ensure_built, find_operations, hooked
from keras_cbam.visualization.images import to_float32
from keras_cbam.visualization.squashing import squashes, squashing_end, without_squashing

# Not taken by default: a model stands for its layers, and padding moves the positions.
_PASSED_OVER = (keras.Model, keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
_SMALLEST = 1e-30


class FeatureGradients:
    """The feature maps of a layer, the logits of a classifier, and the gradient between them.

    Args:
        model: `keras.Model` with one output of class scores.
        batch: inputs of the model, on whose first example its calls are recorded.
        layer: see `grad_cam`.
    """

    def __init__(self, model, batch, layer):
        ensure_built(model, batch)
        self.model = model
        self.operations = find_operations(model)
        calls, scores = self._record(keras.tree.map_structure(lambda array: array[:1], batch))
        # By the outputs of the last call, whichever was before.
        with_maps = {one for one, outputs in dict(calls).items() if _are_maps(outputs)}
        if layer is None:
            self.target = self._last(calls, with_maps)
        else:
            self.target = self._named(layer, with_maps)
        self.is_first = self._is_channels_first(self.target)
        self.target_calls = sum(operation is self.target for operation, _ in calls)
        self.end = squashing_end(calls)
        self.is_single = scores.shape[1] == 1
        # Probabilities, by an operation that cannot be left out: their logarithms are logits.
        self.are_probabilities = (
            self.end is None
            and not self.is_single
            and bool((scores >= 0).all() and np.allclose(scores.sum(), 1, atol=1e-2))
        )

    def _record(self, batch):
        """`(operation, outputs)` of every call, inner before outer; and the scores."""
        calls = []

        def recorded(operation):
            def hook(call, *args, **kwargs):
                outputs = call(*args, **kwargs)
                calls.append((operation, outputs))
                return outputs

            return hook

        with hooked([(one, recorded(one)) for one in self.operations.values()]):
            scores = self.model(batch, training=False)
        if len(getattr(scores, "shape", ())) != 2:
            received = [tuple(one.shape) for one in keras.tree.flatten(scores)]
            raise ValueError(
                "Grad-CAM needs a model with one output of class scores, (batch, classes). "
                f"Received: a model with outputs of the shapes {received} for one image"
            )
        return calls, to_float32(scores)

    def _named(self, layer, with_maps):
        is_name = isinstance(layer, str)
        found = {
            path: operation
            for path, operation in self.operations.items()
            if (layer in (path, operation.name) if is_name else operation is layer)
        }
        if not found:
            names = [path for path, one in self.operations.items() if one in with_maps]
            near = near_names(layer, names) if is_name else f"It has {', '.join(names)}."
            raise ValueError(f"The model has no such layer. {near} Received: layer={layer!r}")
        if len(found) > 1:
            raise ValueError(
                f"Several layers have this name: pass one of {', '.join(found)}. "
                f"Received: layer={layer!r}"
            )
        (target,) = found.values()
        if target not in with_maps:
            raise ValueError(
                "`layer` must be a layer with feature maps (batch, height, width, channels). "
                f"Received: layer={layer!r}"
            )
        return target

    def _last(self, calls, with_maps):
        for operation, outputs in reversed(calls):
            if operation in with_maps and not isinstance(operation, _PASSED_OVER):
                is_first = self._is_channels_first(operation)
                if math.prod(outputs.shape[2:] if is_first else outputs.shape[1:3]) > 1:
                    return operation
        raise ValueError(
            "Grad-CAM needs a model with a layer of feature maps (batch, height, width, channels). "
            f"Received: {self.model!r}"
        )

    def _is_channels_first(self, operation):
        own_format = getattr(operation, "data_format", None)
        return (own_format or data_format(self.model)) == "channels_first"

    def _run(self, batch, hook):
        """Logits, with `hook` at the last call of the target."""
        calls = 0

        def at_target(call, *args, **kwargs):
            nonlocal calls
            calls += 1
            outputs = call(*args, **kwargs)
            return hook(outputs) if calls == self.target_calls else outputs

        hooks = [(self.target, at_target)]
        if self.end is not None:
            hooks.append((self.end, without_squashing(self.end)))
        with hooked(hooks):
            scores = ops.cast(self.model(batch, training=False), "float32")
        return ops.log(ops.maximum(scores, _SMALLEST)) if self.are_probabilities else scores

    def forward(self, batch):
        """Feature maps, channels last, and logits as float32 arrays."""
        features = []

        def keep(outputs):
            features.append(outputs)
            return outputs

        scores = to_float32(self._run(batch, keep))
        if not np.isfinite(scores).all():
            raise ValueError(
                "The scores of the model are not finite. "
                f"Received: {np.count_nonzero(~np.isfinite(scores))} such scores"
            )
        if self.is_single:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        return self._channels_last(to_float32(features[0])), scores

    def probabilities(self, scores):
        """The probabilities of all classes, from the logits."""
        if squashes(self.end) == "Sigmoid" and not self.is_single:
            return 1 / (1 + np.exp(-scores))
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def gradient(self, batch, shape, classes):
        """The gradient of the classes' logits to the feature maps, channels last."""
        if self.is_first:
            shape = (shape[0], shape[3], shape[1], shape[2])

        def score(change):
            def changed(outputs):
                return ops.cast(ops.cast(outputs, "float32") + change, outputs.dtype)

            scores = self._run(batch, changed)
            if self.is_single:
                chosen = (2.0 * classes - 1)[:, None]
            else:
                chosen = np.eye(scores.shape[1])[classes]
            return ops.sum(scores * ops.convert_to_tensor(chosen, "float32"))

        return self._channels_last(to_float32(_gradient(score, np.zeros(shape, "float32"))))

    def _channels_last(self, array):
        return np.moveaxis(array, 1, -1) if self.is_first else array


def _are_maps(outputs):
    return len(getattr(outputs, "shape", ())) == 4 and "float" in str(outputs.dtype)


def _gradient(function, point):
    backend = keras.backend.backend()
    point = ops.convert_to_tensor(point)
    if backend == "tensorflow":
        import tensorflow as tf

        # Of the weights no gradient is needed.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(point)
            value = function(point)
        return tape.gradient(value, point, unconnected_gradients="zero")
    if backend == "jax":
        import jax

        # What layers add to the losses of the model must not stay there as tracers.
        with keras.StatelessScope(collect_losses=True):
            return jax.grad(function)(point)
    if backend == "torch":
        import torch

        point = point.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(function(point), point, materialize_grads=True)[0]
    raise ValueError(f"Grad-CAM has no gradients on the backend {backend!r}.")
