"""CBAM's default arrangement as a pair of functions, forward and backward, that XLA fuses.

Beside the inputs, the gradient keeps only small tensors: what is as large as the inputs is computed
again, in passes that store nothing. Gradients of the small functions are those of the backend.
Inputs become matrices, `(batch, positions, channels)` or `(batch, channels, positions)`.

A maximum over the inputs is found again exactly. A maximum over the channels of the features, which
are the inputs times the channel map, is found among products that are computed again: what is
within 8 machine epsilons of it shares its gradient.
"""

import functools
import importlib
import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import keras
import numpy as np
from keras import ops

from keras_cbam import _compat
from keras_cbam.ops import attention
from keras_cbam.ops.custom_gradient import pull_back, with_gradient

# A reduction of an expression is fast on a CPU only if it is written out in a few parts: without
# them it takes 1.4 times as long; 8 compile in a second, 64 in many, and are hardly faster.
PARTS = 8
VECTOR = 16
ROUNDING = 8  # A compiler may round a product otherwise where it computes it again.


class Settings(NamedTuple):
    """What is fixed when the functions are traced. `has_parts`: whether they are for a CPU."""

    channel_axis: int
    activation: Callable
    gate_activation: Callable
    epsilon: float | None
    has_parts: bool


def takes(inputs: Any) -> bool:
    """Whether inputs take this path: XLA compiles what is traced, and only the batch is unknown.

    Not in three dimensions, where XLA's convolution is slow; and not with JAX on a CPU, whose XLA
    writes what it reduces to memory: two to three times the time of plain operations.
    """
    is_static = all(isinstance(size, numbers.Integral) for size in inputs.shape[1:])
    if not is_static or len(inputs.shape) == 5 or not _compat.is_compiled_around(inputs):
        return False
    return keras.backend.backend() == "tensorflow" or not is_on_cpu()


def is_on_cpu() -> bool:
    if keras.backend.backend() == "jax":
        return importlib.import_module("jax").default_backend() == "cpu"
    return not importlib.import_module("tensorflow").config.list_physical_devices("GPU")


def cbam(inputs: Any, weights: Any, settings: Settings) -> Any:
    """CBAM of the inputs, differentiated by this file's `backward`.

    Args:
        inputs: floating tensor of rank 3 or 4, of which only the batch may be unknown.
        weights: pair of dicts of tensors, the weights of the channel gate and of the spatial gate
            by their names; with `moving_mean` and `moving_variance` only if these normalize.
        settings: `Settings`.

    Returns:
        The outputs, in the inputs' dtype; the channel map, `(batch, 1, channels)`, and the spatial
        map, `(batch, positions, 1)`, or with both axes exchanged as in the inputs; the batch
        normalization's mean and variance, or `()` if it does not compute any.
    """
    push = functools.partial(forward, settings=settings)
    return with_gradient(push, functools.partial(backward, settings=settings))(inputs, weights)


def forward(inputs: Any, weights: Any, settings: Settings) -> tuple[Any, Any]:
    """The results, and what the gradient keeps beside the inputs and the weights."""
    x, space, channels, grid = as_matrix(inputs, settings)
    positions = x.shape[space]
    total, top = reductions(settings)
    mean, peak = total(product, [x], space) / positions, top(product, [x], space)
    channel_map = of_channels(mean, peak, weights[0], space, settings)
    mean_grid = total(product, [x, channel_map], channels) / x.shape[channels]
    peak_grid = top(product, [x, channel_map], channels)
    mean_grid, peak_grid = (ops.reshape(each, (-1, *grid)) for each in (mean_grid, peak_grid))
    logits = convolve(mean_grid, peak_grid, weights[1]["kernel"], settings)
    spatial_map, moments = of_positions(logits, weights[1], settings)
    spatial_map = ops.expand_dims(ops.reshape(spatial_map, (-1, positions)), channels)
    outputs = ops.reshape(product(x, channel_map, spatial_map), (-1, *inputs.shape[1:]))
    kept = mean, peak, channel_map, mean_grid, peak_grid, logits, spatial_map
    return (ops.cast(outputs, inputs.dtype), channel_map, spatial_map, moments), kept


def backward(inputs: Any, weights: Any, kept: Any, upstream: Any, settings: Settings) -> Any:
    """Gradients of the inputs and of the weights."""
    mean, peak, channel_map, mean_grid, peak_grid, logits, spatial_map = kept
    x, space, channels, grid = as_matrix(inputs, settings)
    of_outputs = as_matrix(upstream[0], settings)[0]
    positions = x.shape[space]
    total, _ = reductions(settings)
    others = dict(weights[1])
    kernel = others.pop("kernel")

    def as_column(maps) -> Any:
        return ops.expand_dims(ops.reshape(maps, (-1, positions)), channels)

    # From the outputs to the spatial map, and through its convolution.
    of_map = total(product, [of_outputs, x, channel_map], channels) + upstream[2]
    of_map = ops.reshape(of_map, (-1, *grid))
    of_map = of_map, upstream[3]
    of_logits, of_others = pull_back(of_positions, (logits, others), of_map, settings=settings)
    of_grids = pull_back(convolve, (mean_grid, peak_grid, kernel), of_logits, settings=settings)
    of_mean, of_peak, of_kernel = as_column(of_grids[0]), as_column(of_grids[1]), of_grids[2]
    least = least_tie(as_column(peak_grid))
    share = of_peak / total(is_top, [least, x, channel_map], channels)

    # To the features between both maps, which are not written to memory, and the channel map.
    def of_features(x, of_outputs, channel_map, spatial_map, of_mean, least, share):
        of_peak = ops.where(product(x, channel_map) >= least, share, 0)
        return of_outputs * spatial_map + of_mean + of_peak

    of_mean = of_mean / x.shape[channels]
    tensors = [x, of_outputs, channel_map, spatial_map, of_mean, least, share]
    of_map = total(lambda x, *others: x * of_features(x, *others), tensors, space) + upstream[1]
    fixed = {"space": space, "settings": settings}
    of_mean, of_peak, of_channel = pull_back(of_channels, (mean, peak, weights[0]), of_map, **fixed)
    share = of_peak / total(is_top, [peak, x], space)
    of_x = channel_map * of_features(*tensors) + of_mean / positions
    of_x = ops.reshape(of_x + ops.where(x >= peak, share, 0), (-1, *inputs.shape[1:]))
    return ops.cast(of_x, inputs.dtype), (of_channel, {**of_others, "kernel": of_kernel})


# Functions of small tensors, which the backend differentiates.


def of_channels(mean: Any, peak: Any, weights: Any, space: int, settings: Settings) -> Any:
    """The channel map of both descriptors, with size 1 on the axis of space: equation 2."""
    descriptors = [ops.squeeze(mean, space), ops.squeeze(peak, space)]
    kernels = weights["hidden_kernel"], weights["output_kernel"]
    biases = (weights["hidden_bias"], weights["output_bias"]) if "hidden_bias" in weights else None
    logits = attention.channel_logits(descriptors, kernels, biases, settings.activation)
    channel_map = settings.gate_activation(logits)
    blended = attention.blend_with_identity(channel_map, weights.get("identity_scale"))
    return ops.expand_dims(blended, space)


def convolve(mean_grid: Any, peak_grid: Any, kernel: Any, settings: Settings) -> Any:
    """The spatial gate's logits of descriptors `(batch, height, width)`: equation 3.

    XLA's own convolution on the CPU takes three times as long as the rest of the forward pass. Here
    one product of matrices gives the sums of each row of the kernel, which are shifted and added.
    """
    rows, columns = (1, *kernel.shape[:-2])[-2:]
    kernel = ops.reshape(ops.cast(kernel, mean_grid.dtype), (rows, columns, 2, 1))
    if not settings.has_parts:
        maps = ops.stack([mean_grid, peak_grid], -1)
        return ops.squeeze(attention.convolve(maps, kernel, None, 1, None), -1)
    height, width = mean_grid.shape[1:]
    margins = [(rows // 2, rows // 2), (columns // 2, columns // 2)]
    maps = cast(Any, ops.pad(ops.stack([mean_grid, peak_grid]), [(0, 0), (0, 0), *margins]))
    shifted = ops.concatenate([maps[..., j : j + width] for j in range(columns)], 0)
    matrix = ops.reshape(kernel, (rows, 2 * columns))
    sums = ops.matmul(matrix, ops.reshape(shifted, (2 * columns, -1)))
    sums = cast(Any, ops.reshape(sums, (rows, -1, height + 2 * (rows // 2), width)))
    return in_pairs(ops.add, [sums[i, :, i : i + height] for i in range(rows)])


def of_positions(logits: Any, weights: Any, settings: Settings) -> tuple[Any, Any]:
    """The spatial map of its logits, and the batch's moments where they normalize them."""
    moments = ()
    if "gamma" in weights:
        if "moving_mean" in weights:
            mean, variance = weights["moving_mean"], weights["moving_variance"]
        else:
            moments = mean, variance = cast(Any, ops.moments(logits, (0, 1, 2)))
        scale = weights["gamma"] * ops.rsqrt(variance + settings.epsilon)
        logits = (logits - mean) * scale + weights["beta"]
    spatial_map = settings.gate_activation(logits)
    return attention.blend_with_identity(spatial_map, weights.get("identity_scale")), moments


# Matrices as large as the inputs, and their reductions.


def as_matrix(inputs: Any, settings: Settings) -> tuple[Any, int, int, tuple[int, ...]]:
    """`inputs` as a matrix, its axes of space and of channels, and the height and width."""
    shape = inputs.shape[1:]
    if settings.channel_axis == 1:
        space, channels, grid = 2, 1, shape[1:]
        sizes = shape[0], math.prod(grid)
    else:
        space, channels, grid = 1, 2, shape[:-1]
        sizes = math.prod(grid), shape[-1]
    wide = attention.accumulation_dtype(inputs.dtype)
    return ops.cast(ops.reshape(inputs, (-1, *sizes)), wide), space, channels, (1, *grid)[-2:]


def product(*factors: Any) -> Any:
    return functools.reduce(ops.multiply, factors)


def is_top(least: Any, *factors: Any) -> Any:
    return ops.cast(product(*factors) >= least, least.dtype)


def least_tie(peak: Any) -> Any:
    """The least product that counts as equal to the maximum."""
    tolerance = ROUNDING * float(np.finfo(keras.backend.standardize_dtype(peak.dtype)).eps)
    return ops.minimum(peak * (1 - tolerance), peak * (1 + tolerance))


def reductions(settings: Settings) -> tuple[Callable, ...]:
    """Sum and maximum of `function(*tensors)` over an axis of matrices, which keeps size 1."""
    most = PARTS if settings.has_parts else 1

    def reduced(combine, reduce, function, tensors, axis):
        size = max(tensor.shape[axis] for tensor in tensors)
        unit = VECTOR if axis == 2 else 1
        number = max((k for k in range(1, most + 1) if size % (k * unit) == 0), default=1)
        pieces = [
            [t] * number if 1 in (number, t.shape[axis]) else ops.split(t, number, axis)
            for t in tensors
        ]
        parts = [function(*part) for part in zip(*pieces)]
        return reduce(in_pairs(combine, parts), axis, keepdims=True)

    sums_and_maxima = (ops.add, ops.sum), (ops.maximum, ops.max)
    return tuple(functools.partial(reduced, *pair) for pair in sums_and_maxima)


def in_pairs(combine: Callable, terms: list[Any]) -> Any:
    """All terms combined. One long chain takes longer to compile, and its sum rounds more."""
    while len(terms) > 1:
        terms = [functools.reduce(combine, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0]
