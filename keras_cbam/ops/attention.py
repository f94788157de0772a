"""CBAM's mathematics in plain `keras.ops`, for every option, rank, data format and backend.

Read from top to bottom, the paper's equations: the descriptors of the channels and their shared
MLP (2), the descriptors of the positions and their convolution (3), and what an attention map does
to the feature map (1). Gradients are those of the backend.

`inputs` are floating tensors of shape `(batch, ..., channels)` or `(batch, channels, ...)`, with
the channels at `channel_axis`. Pools, sums and attention maps are at least float32. A `mask`,
`(batch, steps)`, is for inputs with one spatial axis: it is true at real steps, not at padding.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

CHANNEL_POOLING = ("avg", "max", "lp", "lse")
SPATIAL_POOLING = ("avg", "max", "conv")
# Below any number that is pooled, and finite: the gradients stay finite too.
LOWEST = -3e38


def accumulation_dtype(dtype: Any) -> str:
    """The dtype in which pools, attention maps and their sums are computed: at least float32."""
    dtype = keras.backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def space_axes(rank: int, channel_axis: int) -> tuple[int, ...]:
    """The spatial axes of inputs of that rank."""
    return tuple(axis for axis in range(1, rank) if axis != channel_axis)


def affine(inputs: Any, kernel: Any, bias: Any = None) -> Any:
    """`inputs @ kernel + bias` in the inputs' dtype."""
    # The PyTorch backend multiplies float64 matrices in float32.
    product = ops.cast(ops.matmul(inputs, ops.cast(kernel, inputs.dtype)), inputs.dtype)
    return product if bias is None else ops.add(product, ops.cast(bias, inputs.dtype))


# Equation 2: Mc(F) = sigmoid(W1 relu(W0 F_avg) + W1 relu(W0 F_max))


def pool_over_space(inputs: Any, methods: Iterable[str], channel_axis: int, mask: Any) -> list:
    """Descriptors of the channels: for each method a tensor of shape `(batch, channels)`.

    - `"avg"`: mean
    - `"max"`: maximum; tied maxima share its gradient equally
    - `"lp"`: `sqrt(sum(x ** 2))`, the L2 norm; its gradient at an all-zero channel is 0
    - `"lse"`: `log(sum(exp(x)))`

    With a mask they are those of the real steps, or 0 where an example has none.
    """
    axes = space_axes(len(inputs.shape), channel_axis)
    dtype = accumulation_dtype(inputs.dtype)
    wide = ops.cast(inputs, dtype)
    if mask is None:
        # With a batch of unknown size, TensorFlow's gradient is shorter where axes are kept.
        return [ops.squeeze(POOLS[method](wide, axes, keepdims=True), axes) for method in methods]
    is_real = ops.cast(ops.expand_dims(mask, channel_axis), "bool")
    number = ops.sum(ops.cast(is_real, dtype), axes)

    def pool(method):
        filled = ops.where(is_real, wide, LOWEST if method in ("max", "lse") else 0)
        if method == "avg":
            return ops.divide(ops.sum(filled, axes), ops.maximum(number, 1))
        return ops.where(ops.equal(number, 0), 0, POOLS[method](filled, axes, keepdims=False))

    return [pool(method) for method in methods]


def _norm(inputs, axis, keepdims):
    energy = ops.sum(ops.square(inputs), axis, keepdims=keepdims)
    # sqrt has no finite gradient at 0: it is taken at 1 there, and the result masked.
    is_zero = ops.equal(energy, 0)
    norm = ops.sqrt(ops.where(is_zero, ops.ones_like(energy), energy))
    return ops.where(is_zero, ops.zeros_like(norm), norm)


POOLS = {"avg": ops.mean, "max": ops.max, "lp": _norm, "lse": ops.logsumexp}


def channel_logits(descriptors: Any, kernels: Any, biases: Any, activation: Callable) -> Any:
    """Sum over the descriptors `d` of the shared MLP `W1 activation(W0 d + b0) + b1`.

    `descriptors` is a list of tensors `(batch, channels)`, `kernels` the pair `(W0, W1)` of shapes
    `(channels, hidden)` and `(hidden, channels)`, `biases` the pair `(b0, b1)` or `None`. Returns
    a tensor `(batch, channels)`.
    """
    first, second = biases or (None, None)
    hidden = affine(ops.stack(descriptors, axis=0), kernels[0], first)
    # Some functions of Keras give float32 for float64 on JAX.
    active = ops.cast(activation(hidden), hidden.dtype)
    return ops.sum(affine(active, kernels[1], second), axis=0)


# Equation 3: Ms(F') = sigmoid(conv7x7([F'_avg; F'_max]))


def pool_over_channels(inputs: Any, method: str, channel_axis: int) -> Any:
    """Descriptor of the positions, `"avg"` or `"max"`: a tensor `(batch, ..., 1)`."""
    wide = ops.cast(inputs, accumulation_dtype(inputs.dtype))
    descriptor = POOLS[method](wide, channel_axis, keepdims=True)
    return ops.expand_dims(ops.squeeze(descriptor, channel_axis), -1)


def project_channels(inputs: Any, kernel: Any, channel_axis: int, bias: Any = None) -> Any:
    """Learned 1x1 convolution by `kernel`, `(channels, maps)`: a tensor `(batch, ..., maps)`."""
    wide = ops.cast(inputs, accumulation_dtype(inputs.dtype))
    return affine(ops.moveaxis(wide, channel_axis, -1), kernel, bias)


def convolve(maps: Any, kernel: Any, bias: Any, dilation_rate: int, mask: Any) -> Any:
    """Convolution with "same" padding, channels last, which sees zeros at the padded steps.

    `maps` has the shape `(batch, ..., maps)`, `kernel` `(kernel_size, ..., maps, filters)`, `bias`
    `(filters,)` or it is `None`. Returns a tensor `(batch, ..., filters)`.
    """
    if mask is not None:
        maps = ops.where(ops.cast(ops.expand_dims(mask, -1), "bool"), maps, 0)
    kernel = ops.cast(kernel, maps.dtype)
    outputs = ops.conv(maps, kernel, 1, "same", "channels_last", dilation_rate)
    return outputs if bias is None else ops.add(outputs, ops.cast(bias, maps.dtype))


# Equation 1: F' = Mc(F) * F, F'' = Ms(F') * F'


def blend_with_identity(attention_map: Any, scale: Any) -> Any:
    """`1 + scale * (M - 1)`, in a form that is exactly 1 at scale 0 and exactly M at scale 1.

    Without a scale, `None`, it is the attention map M.
    """
    if scale is None:
        return attention_map
    scale = ops.cast(scale, attention_map.dtype)
    return ops.add(ops.subtract(1, scale), ops.multiply(scale, attention_map))


def apply_map(inputs: Any, attention_map: Any) -> Any:
    """`inputs` times the attention map, in the map's dtype.

    The map's gradient is a sum over the whole feature map, which float16 could not hold.
    """
    return ops.multiply(ops.cast(inputs, attention_map.dtype), attention_map)
