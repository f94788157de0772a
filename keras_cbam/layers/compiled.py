"""A layer's training step compiled by XLA as one function, inside a TensorFlow graph."""

import json

import keras

from keras_cbam.ops.compilation import inside_compiled_function, may_compile

_functions = {}


def refine(layer, inputs, training):
    """`layer.refine(inputs, training)`; in a TensorFlow graph that trains, compiled by XLA."""
    if not (training and may_compile(inputs)):
        return layer.refine(inputs, training)
    import tensorflow as tf

    trained, fixed = (
        [tf.convert_to_tensor(variable.value) for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    )
    outputs, scores, updates = _compiled(layer)(inputs, trained, fixed)
    for variable, update in zip(layer.non_trainable_variables, updates):
        variable.assign(update)
    return outputs, scores


def _compiled(layer):
    """One function for all layers with the same settings, which XLA then compiles once a shape."""
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
        _functions[key] = _make(layer)
    return _functions[key]


def _make(layer):
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def function(inputs, trained, fixed):
        variables = layer.trainable_variables + layer.non_trainable_variables
        with (
            keras.StatelessScope(zip(variables, [*trained, *fixed])) as scope,
            inside_compiled_function(),
        ):
            outputs, scores = layer.refine(inputs, training=True)
        changed = [scope.get_current_value(variable) for variable in layer.non_trainable_variables]
        return outputs, scores, changed

    return function
