"""Feature maps and class scores of a classifier, and the gradients between them."""

import math

import keras
import numpy as np
from keras import ops

from keras_cbam.errors import near_names
from keras_cbam.insertion.graph import data_format
from keras_cbam.visualization.calls import ensure_built, find_operations, hooked
from keras_cbam.visualization.squashing import squashes, squashing_end, without_squashing

# No default: a model is there by its layers, and padding moves the positions.
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
        one = keras.tree.map_structure(lambda array: array[:1], batch)
        calls = self._record(one)
        self.target = self._target(calls, layer)
        own_format = getattr(self.target, "data_format", None)
        self.is_first = (own_format or data_format(model)) == "channels_first"
        self.target_calls = sum(operation is self.target for operation, _ in calls)
        self.end = squashing_end(calls)
        self.is_single = self.scores.shape[1] == 1
        # Probabilities, by an operation that cannot be left out: their logarithms are logits.
        self.are_probabilities = (
            self.end is None
            and not self.is_single
            and bool((self.scores >= 0).all() and np.allclose(self.scores.sum(), 1, atol=1e-2))
        )

    def _record(self, batch):
        """`(operation, outputs)` of every call, inner before outer; and the scores."""
        calls = []

        def hook(call, operation, *args, **kwargs):
            outputs = call(*args, **kwargs)
            calls.append((operation, outputs))
            return outputs

        operations = self.operations.values()
        hooks = [(op, lambda call, *a, op=op, **k: hook(call, op, *a, **k)) for op in operations]
        with hooked(hooks):
            scores = self.model(batch, training=False)
        shape = getattr(scores, "shape", None)
        if shape is None or len(shape) != 2:
            received = [tuple(one.shape) for one in keras.tree.flatten(scores)]
            raise ValueError(
                "Grad-CAM needs a model with one output of class scores, (batch, classes). "
                f"Received: a model with outputs of the shapes {received} for one picture"
            )
        self.scores = _to_numpy(scores)
        return calls

    def _target(self, calls, layer):
        if layer is None:
            return self._last_with_space(calls)
        is_name = isinstance(layer, str)
        found = {
            path: op
            for path, op in self.operations.items()
            if (layer in (path, op.name) if is_name else op is layer)
        }
        if not found:
            names = [path for path, op in self.operations.items() if _has_space(op, calls)]
            near = near_names(layer, names) if is_name else f"It has {', '.join(names)}."
            raise ValueError(f"The model has no such layer. {near} Received: layer={layer!r}")
        if len(found) > 1:
            raise ValueError(
                f"Several layers have this name: pass one of {', '.join(found)}. "
                f"Received: layer={layer!r}"
            )
        (target,) = found.values()
        if not _has_space(target, calls):
            raise ValueError(
                "`layer` must be a layer with feature maps (batch, height, width, channels). "
                f"Received: layer={layer!r}"
            )
        return target

    def _last_with_space(self, calls):
        for operation, outputs in reversed(calls):
            shape = getattr(outputs, "shape", ())
            own_format = getattr(operation, "data_format", None)
            is_first = (own_format or data_format(self.model)) == "channels_first"
            space = shape[2:] if is_first else shape[1:3]
            is_passed_over = isinstance(operation, _PASSED_OVER)
            if _has_space(operation, calls) and math.prod(space) > 1 and not is_passed_over:
                return operation
        raise ValueError(
            "Grad-CAM needs a model with a layer of feature maps (batch, height, width, channels). "
            f"Received: {self.model!r}"
        )

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
            return self.model(batch, training=False)

    def forward(self, batch):
        """Feature maps, channels last, and logits as float32 arrays."""
        features = []

        def keep(outputs):
            features.append(outputs)
            return outputs

        scores = _to_numpy(self._run(batch, keep))
        if not np.isfinite(scores).all():
            raise ValueError(
                "The scores of the model are not finite. "
                f"Received: {np.count_nonzero(~np.isfinite(scores))} such scores"
            )
        if self.is_single:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        if self.are_probabilities:
            scores = np.log(np.maximum(scores, _SMALLEST))
        return self._channels_last(_to_numpy(features[0])), scores

    def probabilities(self, scores):
        """Of all classes, from the logits."""
        if squashes(self.end) == "Sigmoid" and not self.is_single:
            return 1 / (1 + np.exp(-scores))
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def gradient(self, batch, shape, classes):
        """Of the classes' logits with respect to the feature maps, channels last."""
        if self.is_first:
            shape = (shape[0], shape[3], shape[1], shape[2])

        def score(change):
            scores = ops.cast(
                self._run(
                    batch,
                    lambda outputs: ops.cast(ops.cast(outputs, "float32") + change, outputs.dtype),
                ),
                "float32",
            )
            if self.are_probabilities:
                scores = ops.log(ops.maximum(scores, _SMALLEST))
            if self.is_single:
                chosen = (2.0 * classes - 1)[:, None]
            else:
                chosen = np.eye(scores.shape[1])[classes]
            return ops.sum(scores * ops.convert_to_tensor(chosen, "float32"))

        return self._channels_last(_to_numpy(_gradient(score, np.zeros(shape, "float32"))))

    def _channels_last(self, array):
        return np.moveaxis(array, 1, -1) if self.is_first else array


def _to_numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


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


def _has_space(operation, calls):
    outputs = [output for called, output in calls if called is operation]
    shape = getattr(outputs[-1], "shape", ()) if outputs else ()
    return len(shape) == 4 and "float" in str(outputs[-1].dtype)
