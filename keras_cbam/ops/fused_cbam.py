"""CBAM's default arrangement as a pair of functions, forward and backward, that XLA fuses.

Beside the inputs, the gradient keeps only what is tiny: what is as large as the inputs is computed
again, in passes that store nothing. Gradients through what is tiny are those of the backend. Inputs
become matrices, `(batch, positions, channels)` or `(batch, channels, positions)`.

A maximum over the inputs is found again exactly. One over the channels of the gated inputs is found
among products that are computed again: what is within 8 machine epsilons of it shares its gradient.
"""

import functools
import importlib
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_cbam._compat import is_compiled_around
from keras_cbam.ops.attention import (
    accumulation_dtype,
    blend_with_identity,
    channel_logits,
    spatial_logits,
)
from keras_cbam.ops.custom_gradient import pull_back, with_gradient

# A reduction of an expression is fast on a CPU only if it is written out in a few parts: without
# them 1.4 times slower; 8 compile in a second, 64 in many, and are hardly faster.
PARTS = 8
VECTOR = 16
ROUNDING = 8  # A compiler may round a product otherwise where it computes it again.


class Settings(NamedTuple):
    """What is fixed when the functions are traced. `has_parts`: whether they are for a CPU."""

    channel_axis: int
    activation: Callable
    gate_activation: Callable
    epsilon: float
    has_parts: bool


def takes(inputs):
    """Whether inputs take this path: XLA compiles what is traced, and only the batch is unknown.

    Not in three dimensions, where XLA's convolution is slow; and not with JAX on a CPU, whose XLA
    writes what it reduces to memory: two to three times the time of plain operations.
    """
    is_static = all(isinstance(size, numbers.Integral) for size in inputs.shape[1:])
    if not is_static or len(inputs.shape) == 5 or not is_compiled_around(inputs):
        return False
    return keras.backend.backend() == "tensorflow" or not is_on_cpu()


def is_on_cpu():
    if keras.backend.backend() == "jax":
        return importlib.import_module("jax").default_backend() == "cpu"
    return not importlib.import_module("tensorflow").config.list_physical_devices("GPU")


def cbam(inputs, weights, settings):
    """CBAM of the inputs, differentiated by this file's `backward`.

    Args:
        inputs: floating tensor of rank 3 or 4, of which only the batch may be unknown.
        weights: pair of dicts of tensors, by the names of the layers' weights. The channel gate's:
            `hidden_kernel`, `output_kernel` and perhaps `hidden_bias`, `output_bias`. The spatial
            gate's: `kernel` and perhaps `gamma`, `beta`, and `moving_mean`, `moving_variance` if
            these normalize. In both perhaps `identity_scale`.
        settings: `Settings`.

    Returns:
        The outputs, in the inputs' dtype; the channel gate, `(batch, 1, channels)`, and the
        spatial gate, `(batch, positions, 1)`, or with both axes exchanged as in the inputs; the
        batch normalization's mean and variance, or `()` if it does not compute any.
    """
    pair = (functools.partial(function, settings=settings) for function in (forward, backward))
    return with_gradient(*pair)(inputs, weights)


def forward(inputs, weights, settings):
    """The results, and what the gradient keeps beside the inputs and the weights."""
    x, space, channels, grid = as_matrix(inputs, settings)
    positions = math.prod(grid)
    total, top = reductions(settings)
    mean, peak = total(product, [x], space) / positions, top(product, [x], space)
    channel_gate = of_channels(mean, peak, weights[0], space, settings)
    mean_map = total(product, [x, channel_gate], channels) / x.shape[channels]
    peak_map = top(product, [x, channel_gate], channels)
    maps = [ops.reshape(pooled, (-1, *grid)) for pooled in (mean_map, peak_map)]
    logits = convolve(*maps, weights[1]["kernel"], settings)
    gate, moments = of_positions(logits, weights[1], settings)
    spatial_gate = ops.expand_dims(ops.reshape(gate, (-1, positions)), channels)
    outputs = ops.reshape(product(x, channel_gate, spatial_gate), (-1, *inputs.shape[1:]))
    kept = mean, peak, channel_gate, mean_map, peak_map, logits, spatial_gate
    return (ops.cast(outputs, inputs.dtype), channel_gate, spatial_gate, moments), kept


def backward(inputs, weights, kept, upstream, settings):
    """Gradients of the inputs and of the weights."""
    mean, peak, channel_gate, mean_map, peak_map, logits, spatial_gate = kept
    x, space, channels, grid = as_matrix(inputs, settings)
    of_outputs = as_matrix(upstream[0], settings)[0]
    positions = math.prod(grid)
    total, _ = reductions(settings)
    others = dict(weights[1])
    kernel = others.pop("kernel")

    def as_map(matrix):
        return ops.reshape(matrix, (-1, *grid))

    def as_gate(maps):
        return ops.expand_dims(ops.reshape(maps, (-1, positions)), channels)

    # From the outputs to the spatial gate, and through its convolution.
    of_gate = as_map(total(product, [of_outputs, x, channel_gate], channels) + upstream[2])
    tiny = functools.partial(of_positions, settings=settings)
    of_logits, of_others = pull_back(tiny, (logits, others), (of_gate, upstream[3]))
    tiny = functools.partial(convolve, settings=settings)
    maps = as_map(mean_map), as_map(peak_map)
    of_mean_map, of_peak_map, of_kernel = pull_back(tiny, (*maps, kernel), of_logits)
    least_map = least_tie(peak_map)
    share = as_gate(of_peak_map) / total(is_top, [least_map, x, channel_gate], channels)

    # To the feature map between the gates, which is not written to memory, and the channel gate.
    def of_gated(x, of_outputs, channel_gate, spatial_gate, of_mean, least, share):
        of_peak = ops.where(product(x, channel_gate) >= least, share, 0)
        return of_outputs * spatial_gate + of_mean + of_peak

    of_mean_map = as_gate(of_mean_map) / x.shape[channels]
    tensors = [x, of_outputs, channel_gate, spatial_gate, of_mean_map, least_map, share]
    of_gate = total(lambda x, *others: x * of_gated(x, *others), tensors, space) + upstream[1]
    tiny = functools.partial(of_channels, space=space, settings=settings)
    of_mean, of_peak, of_channel = pull_back(tiny, (mean, peak, weights[0]), of_gate)
    share = of_peak / total(is_top, [peak, x], space)
    of_x = channel_gate * of_gated(*tensors) + of_mean / positions + ops.where(x >= peak, share, 0)
    of_x = ops.cast(ops.reshape(of_x, (-1, *inputs.shape[1:])), inputs.dtype)
    return of_x, (of_channel, {**of_others, "kernel": of_kernel})


# What is tiny: functions that the backend differentiates.


def of_channels(mean, peak, weights, space, settings):
    """The channel gate of both descriptors, with size 1 on the axis of space: equation 2."""
    descriptors = [ops.squeeze(mean, space), ops.squeeze(peak, space)]
    kernels = weights["hidden_kernel"], weights["output_kernel"]
    biases = (weights["hidden_bias"], weights["output_bias"]) if "hidden_bias" in weights else None
    logits = channel_logits(descriptors, kernels, biases, settings.activation)
    gate = settings.gate_activation(logits)
    return ops.expand_dims(blend_with_identity(gate, weights.get("identity_scale")), space)


def convolve(mean_map, peak_map, kernel, settings):
    """The spatial gate's logits of maps `(batch, height, width)`: equation 3.

    XLA's own convolution on the CPU takes three times as long as the rest of the forward pass. Here
    one product of matrices gives the sums of each row of the kernel, which are shifted and added.
    """
    rows, columns = (1, *kernel.shape[:-2])[-2:]
    kernel = ops.reshape(ops.cast(kernel, mean_map.dtype), (rows, columns, 2, 1))
    if not settings.has_parts:
        return ops.squeeze(spatial_logits(ops.stack([mean_map, peak_map], -1), kernel, None), -1)
    height, width = mean_map.shape[1:]
    margins = [(rows // 2, rows // 2), (columns // 2, columns // 2)]
    maps = ops.pad(ops.stack([mean_map, peak_map]), [(0, 0), (0, 0), *margins])
    shifted = ops.concatenate([maps[..., j : j + width] for j in range(columns)], 0)
    matrix = ops.reshape(kernel, (rows, 2 * columns))
    sums = ops.matmul(matrix, ops.reshape(shifted, (2 * columns, -1)))
    sums = ops.reshape(sums, (rows, -1, height + 2 * (rows // 2), width))
    return in_pairs(ops.add, [sums[i, :, i : i + height] for i in range(rows)])


def of_positions(logits, weights, settings):
    """The spatial gate of its logits, and the batch's moments where they normalize them."""
    moments = ()
    if "gamma" in weights:
        if "moving_mean" in weights:
            mean, variance = weights["moving_mean"], weights["moving_variance"]
        else:
            moments = mean, variance = ops.moments(logits, (0, 1, 2))
        scale = weights["gamma"] * ops.rsqrt(variance + settings.epsilon)
        logits = (logits - mean) * scale + weights["beta"]
    gate = settings.gate_activation(logits)
    return blend_with_identity(gate, weights.get("identity_scale")), moments


# What is large: matrices, and their reductions.


def as_matrix(inputs, settings):
    """`inputs` as a matrix, its axes of space and of channels, and the height and width."""
    shape = inputs.shape[1:]
    if settings.channel_axis == 1:
        space, channels, grid = 2, 1, shape[1:]
        sizes = shape[0], math.prod(grid)
    else:
        space, channels, grid = 1, 2, shape[:-1]
        sizes = math.prod(grid), shape[-1]
    matrix = ops.cast(ops.reshape(inputs, (-1, *sizes)), accumulation_dtype(inputs.dtype))
    return matrix, space, channels, (1, *grid)[-2:]


def product(*factors):
    return functools.reduce(ops.multiply, factors)


def is_top(least, *factors):
    return ops.cast(product(*factors) >= least, least.dtype)


def least_tie(peak):
    """The least product that counts as equal to the maximum."""
    epsilon = np.finfo(keras.backend.standardize_dtype(peak.dtype)).eps
    tolerance = ROUNDING * float(epsilon)
    return ops.minimum(peak * (1 - tolerance), peak * (1 + tolerance))


def reductions(settings):
    """Sum and maximum of `function(*tensors)` over an axis of matrices, which keeps size 1."""
    most = PARTS if settings.has_parts else 1

    def reduced(combine, reduce, function, tensors, axis):
        size = max(tensor.shape[axis] for tensor in tensors)
        unit = VECTOR if axis == 2 else 1
        number = max((k for k in range(1, most + 1) if size % (k * unit) == 0), default=1)
        parts = zip(
            *([t] * number if t.shape[axis] == 1 else split(t, number, axis) for t in tensors)
        )
        return reduce(in_pairs(combine, [function(*part) for part in parts]), axis, keepdims=True)

    sums_and_maxima = (ops.add, ops.sum), (ops.maximum, ops.max)
    return tuple(functools.partial(reduced, *pair) for pair in sums_and_maxima)


def split(tensor, number, axis):
    return ops.split(tensor, number, axis) if number > 1 else [tensor]


def in_pairs(combine, terms):
    """All terms combined. One long chain takes longer to compile, and its sum rounds more."""
    while len(terms) > 1:
        pairs = [terms[start : start + 2] for start in range(0, len(terms), 2)]
        terms = [functools.reduce(combine, pair) for pair in pairs]
    return terms[0]
