"""Descriptors of a feature map: pools over space and pools over channels."""

from keras import ops

from keras_cbam.ops.compilation import is_lean
from keras_cbam.ops.lean import gated, pools
from keras_cbam.ops.matrices import accumulation_dtype, as_matrix

CHANNEL_DESCRIPTORS = ("avg", "max", "lp", "lse")
SPATIAL_DESCRIPTORS = ("avg", "max", "conv")


def pool_over_space(inputs, methods, channel_axis, gate=None):
    """Descriptors of the gated inputs: one number for each channel of each picture.

    - `"avg"`: mean
    - `"max"`: maximum
    - `"lp"`: `sqrt(sum(x ** 2))`, the L2 norm; its gradient at an all-zero channel is 0
    - `"lse"`: `log(sum(exp(x)))`

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        methods: sequence of strings out of `CHANNEL_DESCRIPTORS`.
        channel_axis: int, position of the channels.
        gate: tensor that multiplies the inputs, with size 1 on the channel axis or on all spatial
            axes. Defaults to `None`.

    Returns:
        For each method a tensor of shape `(batch, channels)`, dtype
        `accumulation_dtype(inputs.dtype)`.
    """
    space = tuple(axis for axis in range(1, len(inputs.shape)) if axis != channel_axis)
    return _pool(inputs, methods, channel_axis, gate, space)


def pool_over_channels(inputs, methods, channel_axis, gate=None):
    """Mean (`"avg"`) or maximum (`"max"`) of the channels of the gated inputs at each position.

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        methods: sequence of strings, `"avg"` or `"max"`.
        channel_axis: int, position of the channels.
        gate: tensor that multiplies the inputs, with size 1 on the channel axis or on all spatial
            axes. Defaults to `None`.

    Returns:
        For each method a tensor of shape `(batch, ...)` without the channel axis, dtype
        `accumulation_dtype(inputs.dtype)`.
    """
    return _pool(inputs, methods, channel_axis, gate, (channel_axis,))


def _pool(inputs, methods, channel_axis, gate, axes):
    pooled = {}
    gates = [] if gate is None else [gate]
    lean = [method for method in methods if method in ("avg", "max")]
    if lean and is_lean(inputs, *gates):
        over_channels = axes == (channel_axis,)
        results = pools(
            inputs,
            lean,
            1 if over_channels == (channel_axis == 1) else 2,
            channel_axis,
            [as_matrix(gate, channel_axis) for gate in gates],
        )
        kept = [size for axis, size in enumerate(inputs.shape) if axis and axis not in axes]
        pooled = {method: ops.reshape(x, (-1, *kept)) for method, x in zip(lean, results)}
    if len(pooled) < len(methods):
        wide = gated(inputs, *gates)
        for method in methods:
            if method not in pooled:
                pooled[method] = PLAIN_POOLS[method](wide, axes)
    return [pooled[method] for method in methods]


def _norm(inputs, axes):
    energy = ops.sum(ops.square(inputs), axis=axes)
    # sqrt has no finite gradient at 0: it is taken at 1 there, and the result masked.
    is_zero = ops.equal(energy, 0)
    norm = ops.sqrt(ops.where(is_zero, ops.ones_like(energy), energy))
    return ops.where(is_zero, ops.zeros_like(norm), norm)


PLAIN_POOLS = {"avg": ops.mean, "max": ops.max, "lp": _norm, "lse": ops.logsumexp}


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
