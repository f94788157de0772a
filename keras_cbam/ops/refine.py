"""From descriptors to gate maps, and a gate map onto the feature map that it refines."""

import keras
from keras import ops


def channel_logits(descriptors, kernels, biases, activation):
    """Sum over the descriptors `d` of the shared MLP `W1 activation(W0 d + b0) + b1`.

    Args:
        descriptors: list of tensors of shape `(batch, channels)`.
        kernels: pair `(W0, W1)` of shapes `(channels, hidden)` and `(hidden, channels)`.
        biases: pair `(b0, b1)` of shapes `(hidden,)` and `(channels,)`, or `None`.
        activation: callable between the two layers.

    Returns:
        Tensor of shape `(batch, channels)`, in the descriptors' dtype.
    """
    stacked = ops.stack(descriptors, axis=0)
    first, second = (ops.cast(kernel, stacked.dtype) for kernel in kernels)
    hidden = ops.matmul(stacked, first)
    if biases is not None:
        hidden = hidden + ops.cast(biases[0], stacked.dtype)
    logits = ops.matmul(activation(hidden), second)
    if biases is not None:
        logits = logits + ops.cast(biases[1], stacked.dtype)
    return ops.sum(logits, axis=0)


def spatial_logits(maps, kernel, bias):
    """ "Same" convolution of the descriptor maps to one map.

    Args:
        maps: tensor of shape `(batch, ..., maps)`: channels last, whatever the input's format.
        kernel: tensor of shape `(kernel_size, ..., maps, 1)`.
        bias: tensor of shape `(1,)`, or `None`.

    Returns:
        Tensor of shape `(batch, ..., 1)`, in the maps' dtype.
    """
    logits = ops.conv(
        maps, ops.cast(kernel, maps.dtype), padding="same", data_format="channels_last"
    )
    if bias is not None:
        logits = logits + ops.cast(bias, maps.dtype)
    return logits


def blend_with_identity(gate, scale):
    """`1 + scale * (gate - 1)`, in a form that is exactly 1 at scale 0 and the gate at scale 1."""
    scale = ops.cast(scale, gate.dtype)
    return (1 - scale) + scale * gate


def apply_gate(inputs, gate):
    """`inputs * gate` in the inputs' dtype, multiplied (and differentiated) in the gate's.

    The gate's gradient is a sum over the whole feature map, which float16 could not hold.
    """
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    return ops.cast(ops.cast(inputs, gate.dtype) * gate, dtype)
