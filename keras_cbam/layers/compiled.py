"""A layer's training step compiled by XLA as one function, inside a TensorFlow graph."""

import json

import keras

from keras_cbam.ops.compilation import (
    inside_compiled_function,
    is_compiled_prediction,
    may_compile,
)
from keras_cbam.ops.differentiation import recording, replaying

_functions = {}


def refine(layer, inputs, training):
    """`layer.refine(inputs, training)`; in a TensorFlow graph that trains, compiled by XLA.

    So is `predict` where XLA compiles it anyway. A subclass of another package, whose settings its
    configuration may not tell, is not.
    """
    if not training and is_compiled_prediction():
        with inside_compiled_function():
            return layer.refine(inputs, training)
    is_ours = type(layer).__module__.startswith(f"{__package__}.")
    if not (training and is_ours and may_compile(inputs)):
        return layer.refine(inputs, training)
    import tensorflow as tf

    trained, fixed = (
        [tf.convert_to_tensor(variable.value) for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    )
    functions = _compiled(layer)
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


def _compiled(layer):
    """The functions of all layers with the same settings, which XLA then compiles once a shape."""
    settings = {
        name: value
        for name, value in layer.get_config().items()
        if name != "name" and not name.endswith(("activation", "initializer", "regularizer"))
    }
    key = (
        type(layer),
        layer.gate_activation,
        getattr(layer, "activation", None),
        json.dumps(settings, default=str, sort_keys=True),
        tuple(sublayer.trainable for sublayer in layer._flatten_layers()),
        tuple(variable.shape for variable in layer.variables),
    )
    if key not in _functions:
        _functions[key] = _CompiledFunctions()
    return _functions[key]


class _CompiledFunctions:
    """The two halves of a training step, traced with the layer that first needs a shape.

    It stands for all with its settings: its own variables are replaced by the arguments.
    """

    def __init__(self):
        import tensorflow as tf

        self._layer = None
        # Positions of the non-trainable variables that a step updates.
        self.updated = []
        self._compiled_forward = tf.function(self._forward, jit_compile=True, autograph=False)
        self._compiled_backward = tf.function(self._backward, jit_compile=True, autograph=False)

    def forward(self, layer, *arguments):
        return self._call(self._compiled_forward, layer, arguments)

    def backward(self, layer, *arguments):
        return self._call(self._compiled_backward, layer, arguments)

    def _call(self, function, layer, arguments):
        self._layer = layer
        try:
            return function(*arguments)
        finally:
            self._layer = None

    def _refine(self, inputs, trained, fixed):
        layer = self._layer
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
