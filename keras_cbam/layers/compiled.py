"""A layer's training step compiled by XLA as one function, inside a TensorFlow graph."""

import json

import keras

from keras_cbam.ops.compilation import inside_compiled_function, may_compile

_functions = {}


def refine(layer, inputs, training):
    """`layer.refine(inputs, training)`; in a TensorFlow graph that trains, compiled by XLA.

    A subclass of another package, whose settings its configuration may not tell, is not.
    """
    is_ours = type(layer).__module__.startswith(f"{__package__}.")
    if not (training and is_ours and may_compile(inputs)):
        return layer.refine(inputs, training)
    import tensorflow as tf

    trained, fixed = (
        [tf.convert_to_tensor(variable.value) for variable in variables]
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    )
    function, positions = _compiled(layer)
    outputs, scores, updates = function(inputs, trained, fixed)
    for position, update in zip(positions, updates):
        layer.non_trainable_variables[position].assign(update)
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
    """The function, and the positions of the non-trainable variables that it updates.

    The layer stands for all with its settings: its own variables are replaced by the arguments.
    """
    import tensorflow as tf

    positions = []

    @tf.function(jit_compile=True, autograph=False)
    def function(inputs, trained, fixed):
        variables = layer.trainable_variables + layer.non_trainable_variables
        with (
            keras.StatelessScope(zip(variables, [*trained, *fixed])) as scope,
            inside_compiled_function(),
        ):
            outputs, scores = layer.refine(inputs, training=True)
        values = [scope.get_current_value(variable) for variable in layer.non_trainable_variables]
        positions[:] = [i for i, value in enumerate(values) if value is not fixed[i]]
        return outputs, scores, [values[i] for i in positions]

    return function, positions
