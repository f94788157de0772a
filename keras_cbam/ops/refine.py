"""From descriptors to gate maps, and a gate map onto the feature map that it refines."""

from keras import ops

from keras_cbam.ops.compilation import compiles_for_cpu, is_lean
from keras_cbam.ops.convolution import convolve_by_matrix
from keras_cbam.ops.lean import attended, gated
from keras_cbam.ops.matrices import as_matrix, as_matrix_shape


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
    kernel = ops.cast(kernel, maps.dtype)
    if is_lean(maps) and compiles_for_cpu() and len(maps.shape) < 5:
        logits = convolve_by_matrix(maps, kernel)
    else:
        logits = ops.conv(maps, kernel, padding="same", data_format="channels_last")
    if bias is not None:
        logits = logits + ops.cast(bias, maps.dtype)
    return logits


def blend_with_identity(gate, scale):
    """`1 + scale * (gate - 1)`, in a form that is exactly 1 at scale 0 and the gate at scale 1."""
    scale = ops.cast(scale, gate.dtype)
    return (1 - scale) + scale * gate


def apply_gates(inputs, gates, channel_axis):
    """`inputs` times every gate in the inputs' dtype, computed (and differentiated) in the gates'.

    A gate's gradient is a sum over the whole feature map, which float16 could not hold.

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        gates: list of tensors of the inputs' rank, with size 1 on the channel axis or on all
            spatial axes, or of the inputs' shape.
        channel_axis: int, position of the channels.

    Returns:
        Tensor of the shape and dtype of `inputs`.
    """
    is_narrow = is_lean(inputs, *gates) and all(
        1 in as_matrix_shape(gate, channel_axis) for gate in gates
    )
    if gates and is_narrow:
        matrices = [as_matrix(gate, channel_axis) for gate in gates]
        return attended(inputs, matrices, channel_axis)
    return ops.cast(gated(inputs, *gates), inputs.dtype)
