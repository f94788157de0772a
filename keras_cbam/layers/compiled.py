"""A layer's training step compiled by XLA as one function, inside a TensorFlow graph."""

import contextvars
import json
import types

import keras

from keras_cbam.ops.compilation import (
    inside_compiled_function,
    is_compiled_for_inference,
    may_compile,
)
from keras_cbam.ops.differentiation import recording, replaying

_functions = {}
_calling_layer = contextvars.ContextVar("calling_layer")


def refine_compiled(layer, inputs, training):
    """`layer.refine(inputs, training)`; in a TensorFlow graph that trains, compiled by XLA.

    Inference takes the lean path where XLA compiles it anyway.
    """
    if not training and layer.is_lean and is_compiled_for_inference():
        with inside_compiled_function():
            return layer.refine(inputs, training)
    is_lean = training and layer.is_lean and may_compile(inputs)
    functions = _functions_of(layer) if is_lean else None
    if functions is None:
        return layer.refine(inputs, training)
    import tensorflow as tf

    trained, fixed = (
        [tf.convert_to_tensor(variable.value) for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    )
    outputs, scores, updates, kept = functions.forward(layer, inputs, trained, fixed)
    for position, update in zip(functions.updated, updates):
        layer.non_trainable_variables[position].assign(update)

    @tf.custom_gradient
    def differentiated(inputs, *trained):
        def gradient(*upstream):
            return functions.backward(layer, inputs, trained, fixed, kept, upstream)

        return _tensors(outputs, scores), gradient

    results = iter(differentiated(inputs, *trained))
    return tf.nest.map_structure(
        lambda tensor: None if tensor is None else next(results), (outputs, scores)
    )


def _tensors(outputs, scores):
    """All in a list, without the score `None` of a gate that is not there."""
    import tensorflow as tf

    return [tensor for tensor in tf.nest.flatten((outputs, scores)) if tensor is not None]


def _functions_of(layer):
    """The functions of all layers with the same settings, which XLA then compiles once a shape.

    `None` for what they may not share: a subclass, whose settings its configuration may not tell,
    and activations that are not functions of Keras, which may hold variables or not compile.
    """
    settings = []
    for part in layer._flatten_layers():
        activations = [
            getattr(part, name, keras.activations.linear)
            for name in ("activation", "gate_activation")
        ]
        if not type(part).__module__.startswith((f"{__package__}.", "keras.")):
            return None
        if not all(
            isinstance(function, types.FunctionType) and function.__module__.startswith("keras.")
            for function in activations
        ):
            return None
        config = {
            name: value
            for name, value in part.get_config().items()
            if name != "name" and not name.endswith(("activation", "initializer", "regularizer"))
        }
        text = json.dumps(config, default=str, sort_keys=True)
        settings.append((type(part), *activations, text))
    variables = [(variable.trainable, variable.shape) for variable in layer.variables]
    key = (*settings, *variables)
    if key not in _functions:
        _functions[key] = _CompiledFunctions()
    return _functions[key]


class _CompiledFunctions:
    """The two halves of a training step, traced with the layer that first needs a shape.

    It stands for all with its settings: its own variables are replaced by the arguments.
    """

    def __init__(self):
        import tensorflow as tf

        # Positions of the non-trainable variables that a step updates.
        self.updated = []
        self._compiled_forward = tf.function(self._forward, jit_compile=True, autograph=False)
        self._compiled_backward = tf.function(self._backward, jit_compile=True, autograph=False)

    def forward(self, layer, *arguments):
        return self._call(self._compiled_forward, layer, arguments)

    def backward(self, layer, *arguments):
        return self._call(self._compiled_backward, layer, arguments)

    def _call(self, function, layer, arguments):
        token = _calling_layer.set(layer)
        try:
            return function(*arguments)
        finally:
            _calling_layer.reset(token)

    def _refine(self, inputs, trained, fixed):
        layer = _calling_layer.get()
        variables = layer.trainable_variables + layer.non_trainable_variables
        with (
            keras.StatelessScope(zip(variables, [*trained, *fixed])) as scope,
            inside_compiled_function(),
        ):
            outputs, scores = layer.refine(inputs, training=True)
        moved = [scope.get_current_value(variable) for variable in layer.non_trainable_variables]
        return outputs, scores, moved

    def _forward(self, inputs, trained, fixed):
        with recording() as kept:
            outputs, scores, moved = self._refine(inputs, trained, fixed)
        self.updated = [i for i, value in enumerate(moved) if value is not fixed[i]]
        return outputs, scores, [moved[i] for i in self.updated], kept

    def _backward(self, inputs, trained, fixed, kept, upstream):
        import tensorflow as tf

        sources = [inputs, *trained]
        with tf.GradientTape() as tape, replaying(kept):
            tape.watch(sources)
            outputs, scores, _ = self._refine(inputs, trained, fixed)
            results = _tensors(outputs, scores)
        return tape.gradient(results, sources, upstream, unconnected_gradients="zero")
