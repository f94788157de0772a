"""Descriptors of a feature map: pools over space and pools over channels."""

import keras
from keras import ops

CHANNEL_DESCRIPTORS = ("avg", "max", "lp", "lse")
SPATIAL_DESCRIPTORS = ("avg", "max", "conv")


def accumulation_dtype(dtype):
    """The dtype in which pools, gates and their sums are computed: at least float32."""
    dtype = keras.backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def pool_over_space(inputs, method, channel_axis):
    """One number for each channel of each picture.

    - `"avg"`: mean
    - `"max"`: maximum
    - `"lp"`: `sqrt(sum(x ** 2))`, the L2 norm; its gradient at an all-zero channel is 0
    - `"lse"`: `log(sum(exp(x)))`

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        method: string, one of `CHANNEL_DESCRIPTORS`.
        channel_axis: int, position of the channels.

    Returns:
        Tensor of shape `(batch, channels)`, dtype `accumulation_dtype(inputs.dtype)`.
    """
    space = tuple(axis for axis in range(1, len(inputs.shape)) if axis != channel_axis)
    dtype = accumulation_dtype(inputs.dtype)
    if method == "max":
        return ops.cast(ops.max(inputs, axis=space), dtype)
    inputs = ops.cast(inputs, dtype)
    if method == "avg":
        return ops.mean(inputs, axis=space)
    if method == "lse":
        return ops.logsumexp(inputs, axis=space)
    energy = ops.sum(ops.square(inputs), axis=space)
    # sqrt has no finite gradient at 0: it is taken at 1 there, and the result masked.
    is_zero = ops.equal(energy, 0)
    norm = ops.sqrt(ops.where(is_zero, ops.ones_like(energy), energy))
    return ops.where(is_zero, ops.zeros_like(norm), norm)


def pool_over_channels(inputs, method, channel_axis):
    """One number for each position: mean (`"avg"`) or maximum (`"max"`) of its channels.

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        method: string, `"avg"` or `"max"`.
        channel_axis: int, position of the channels.

    Returns:
        Tensor of shape `(batch, ...)` without the channel axis, dtype
        `accumulation_dtype(inputs.dtype)`.
    """
    dtype = accumulation_dtype(inputs.dtype)
    if method == "max":
        return ops.cast(ops.max(inputs, axis=channel_axis), dtype)
    return ops.mean(ops.cast(inputs, dtype), axis=channel_axis)


def project_channels(inputs, kernel, channel_axis):
    """Learned 1x1 convolution: each position's channels times `kernel`.

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        kernel: tensor of shape `(channels, maps)`.
        channel_axis: int, position of the channels.

    Returns:
        Tensor of shape `(batch, ..., maps)`, dtype `accumulation_dtype(inputs.dtype)`.
    """
    dtype = accumulation_dtype(inputs.dtype)
    inputs = ops.moveaxis(ops.cast(inputs, dtype), channel_axis, -1)
    # The PyTorch backend multiplies float64 matrices in float32.
    return ops.cast(ops.matmul(inputs, ops.cast(kernel, dtype)), dtype)
