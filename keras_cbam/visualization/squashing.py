"""The softmax or sigmoid at the end of a classifier, which its logits come before."""

import keras

from keras_cbam.visualization.calls import replaced

# What may stand between the scores and the end of a model without changing them.
_PASSING = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
)
# TensorFlow calls its own `softmax_v2`.
_FUNCTIONS = {"softmax": "Softmax", "softmax_v2": "Softmax", "sigmoid": "Sigmoid"}


def squashes(operation):
    """`"Softmax"` or `"Sigmoid"` if that is the last thing that the operation does."""
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return _FUNCTIONS.get(getattr(activation, "__name__", ""))
    name = type(operation).__name__
    return name if name in _FUNCTIONS.values() else None


def squashing_end(calls):
    """The operation that squashes the scores at the end of the model, or `None`."""
    previous = [None, *(outputs for _, outputs in calls[:-1])]
    for (operation, outputs), before in zip(reversed(calls), reversed(previous)):
        if outputs is before:
            # A layer around the one that was called before it.
            continue
        if squashes(operation):
            return operation
        is_linear = isinstance(operation, keras.layers.Activation) and (
            operation.activation is keras.activations.linear
        )
        if not (is_linear or isinstance(operation, _PASSING)):
            return None
    return None


def without_squashing(operation):
    """A hook under which the operation leaves out its softmax or sigmoid."""

    def hook(call, inputs, *args, **kwargs):
        if getattr(operation, "activation", None) is None:
            return inputs
        with replaced(operation, "activation", keras.activations.linear):
            return call(inputs, *args, **kwargs)

    return hook
