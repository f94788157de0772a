"""CBAM's mathematics in plain `keras.ops`, for every option, rank, data format and backend.

Read from top to bottom, the paper's equations: the descriptors of the channels and their shared
MLP (2), the descriptors of the positions and their convolution (3), and what a gate does to the
feature map (1). Gradients are those of the backend.

`inputs` are floating tensors of shape `(batch, ..., channels)` or `(batch, channels, ...)`, with
the channels at `channel_axis`. What is pooled, summed or gated is at least float32.
"""

import functools
import operator

import keras
from keras import ops

CHANNEL_DESCRIPTORS = ("avg", "max", "lp", "lse")
SPATIAL_DESCRIPTORS = ("avg", "max", "conv")


def accumulation_dtype(dtype):
    """The dtype in which pools, gates and their sums are computed: at least float32."""
    dtype = keras.backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


# Equation 2: Mc(F) = sigmoid(W1 relu(W0 F_avg) + W1 relu(W0 F_max))


def pool_over_space(inputs, methods, channel_axis):
    """Descriptors of the channels: for each method a tensor of shape `(batch, channels)`.

    - `"avg"`: mean
    - `"max"`: maximum; tied maxima share its gradient equally
    - `"lp"`: `sqrt(sum(x ** 2))`, the L2 norm; its gradient at an all-zero channel is 0
    - `"lse"`: `log(sum(exp(x)))`
    """
    space = tuple(axis for axis in range(1, len(inputs.shape)) if axis != channel_axis)
    return _pool(inputs, methods, space)


def _pool(inputs, methods, axes):
    wide = ops.cast(inputs, accumulation_dtype(inputs.dtype))
    # With a batch of unknown size, TensorFlow's gradient is shorter where the axes are kept.
    return [ops.squeeze(POOLS[method](wide, axes, keepdims=True), axes) for method in methods]


def _norm(inputs, axis, keepdims):
    energy = ops.sum(ops.square(inputs), axis, keepdims=keepdims)
    # sqrt has no finite gradient at 0: it is taken at 1 there, and the result masked.
    is_zero = ops.equal(energy, 0)
    norm = ops.sqrt(ops.where(is_zero, ops.ones_like(energy), energy))
    return ops.where(is_zero, ops.zeros_like(norm), norm)


POOLS = {"avg": ops.mean, "max": ops.max, "lp": _norm, "lse": ops.logsumexp}


def channel_logits(descriptors, kernels, biases, activation):
    """Sum over the descriptors `d` of the shared MLP `W1 activation(W0 d + b0) + b1`.

    `descriptors` is a list of tensors `(batch, channels)`, `kernels` the pair `(W0, W1)` of shapes
    `(channels, hidden)` and `(hidden, channels)`, `biases` the pair `(b0, b1)` or `None`. Returns
    a tensor `(batch, channels)`.
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


# Equation 3: Ms(F') = sigmoid(conv7x7([F'_avg; F'_max]))


def pool_over_channels(inputs, methods, channel_axis):
    """Descriptors of the positions, `"avg"` or `"max"`: for each method a tensor `(batch, ...)`."""
    return _pool(inputs, methods, channel_axis)


def project_channels(inputs, kernel, channel_axis):
    """Learned 1x1 convolution by `kernel`, `(channels, maps)`: a tensor `(batch, ..., maps)`."""
    dtype = accumulation_dtype(inputs.dtype)
    inputs = ops.moveaxis(ops.cast(inputs, dtype), channel_axis, -1)
    # The PyTorch backend multiplies float64 matrices in float32.
    return ops.cast(ops.matmul(inputs, ops.cast(kernel, dtype)), dtype)


def spatial_logits(maps, kernel, bias):
    """Convolution with "same" padding of the descriptor maps to one map, channels last.

    `maps` has the shape `(batch, ..., maps)`, `kernel` `(kernel_size, ..., maps, 1)`, `bias` `(1,)`
    or it is `None`. Returns a tensor `(batch, ..., 1)`.
    """
    kernel = ops.cast(kernel, maps.dtype)
    logits = ops.conv(maps, kernel, padding="same", data_format="channels_last")
    return logits if bias is None else logits + ops.cast(bias, maps.dtype)


# Equation 1: F' = Mc(F) * F, F'' = Ms(F') * F'


def blend_with_identity(gate, scale):
    """`1 + scale * (gate - 1)`, in a form that is exactly 1 at scale 0 and the gate at scale 1.

    Without a scale, `None`, it is the gate.
    """
    if scale is None:
        return gate
    scale = ops.cast(scale, gate.dtype)
    return (1 - scale) + scale * gate


def gated(inputs, *gates):
    """`inputs` times every gate, in the gates' dtype.

    A gate's gradient is a sum over the whole feature map, which float16 could not hold.
    """
    return functools.reduce(operator.mul, gates, ops.cast(inputs, gates[0].dtype))


def apply_gates(inputs, gates):
    """`inputs` times every gate, computed (and differentiated) in the gates' dtype, as `inputs`."""
    return ops.cast(gated(inputs, *gates), inputs.dtype)
