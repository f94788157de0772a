"""Pools of a gated feature map, and the gated map itself, with gradients written by hand.

A feature map is a matrix of shape `(batch, m, n)` here, a gate a factor for each row,
`(batch, m, 1)`, or for each column, `(batch, 1, n)`. Training keeps the inputs, the gates and the
pools: what is as large as the inputs is computed again where it is needed, in passes that XLA
fuses. Everything is computed in the gates' dtype, or in the accumulation dtype without one.
"""

import functools
import operator

import keras
import numpy as np
from keras import ops

from keras_cbam.ops.compilation import compiles_for_cpu
from keras_cbam.ops.differentiation import with_gradient
from keras_cbam.ops.matrices import accumulation_dtype, as_matrix
from keras_cbam.ops.reductions import reduce_expression

# In the gradient a maximum is looked for among numbers that are computed again: a compiler may have
# rounded them otherwise, and the gradient of a maximum that is nowhere would be 0 / 0.
_ROUNDING = 8


def gated(x, *gates):
    """`x` times its gates."""
    dtype = gates[0].dtype if gates else accumulation_dtype(x.dtype)
    return functools.reduce(operator.mul, gates, ops.cast(x, dtype))


def like(inputs, matrix):
    """The matrix in the shape and dtype of the inputs."""
    return ops.reshape(ops.cast(matrix, inputs.dtype), (-1, *inputs.shape[1:]))


def least_tie(top):
    """The least number that counts as equal to a maximum."""
    tolerance = _ROUNDING * np.finfo(keras.backend.standardize_dtype(top.dtype)).eps
    return ops.minimum(top * (1 - tolerance), top * (1 + tolerance))


def share_of_max(x, least, share):
    return ops.where(ops.greater_equal(x, least), share, 0)


# The gradient of each set of pools at the gated map `x`, from each pool's share for one number.
SHARES = {
    ("avg",): lambda x, mean: mean,
    ("max",): share_of_max,
    ("avg", "max"): lambda x, mean, least, share: mean + share_of_max(x, least, share),
}


def sum_for_gate(expression, operands, gate, x):
    """Sum of the expression over the axis that the gate is broadcast over, in the gate's dtype."""
    for axis in (1, 2):
        if gate.shape[axis] != x.shape[axis]:
            return ops.cast(reduce_expression("sum", expression, operands, axis), gate.dtype)
    return ops.cast(expression(*operands), gate.dtype)


def mean_of_gated(x, axis, gates):
    size = x.shape[axis]
    # Along the gate it is a product of a matrix and a vector, the fastest way to read `x` once.
    is_product = bool(gates) and tuple(gates[0].shape[1:]) == (
        (size, 1) if axis == 1 else (1, size)
    )
    if is_product and x.dtype == gates[0].dtype and compiles_for_cpu():
        factors = (ops.transpose(gates[0], (0, 2, 1)), x)
        return ops.matmul(*(factors if axis == 1 else reversed(factors))) / size
    return reduce_expression("sum", gated, (x, *gates), axis) / size


@functools.cache
def _pools(methods, axis, channel_axis):
    def pools(inputs, *gates):
        x = as_matrix(inputs, channel_axis)
        results = {}
        if "avg" in methods:
            results["avg"] = mean_of_gated(x, axis, gates)
        if "max" in methods:
            results["max"] = reduce_expression("max", gated, (x, *gates), axis)
        return tuple(results[method] for method in methods)

    def gradient(arguments, results, upstream):
        inputs, *gates = arguments
        x = as_matrix(inputs, channel_axis)
        results, upstream = dict(zip(methods, results)), dict(zip(methods, upstream))
        shares = {}
        if "avg" in methods:
            shares["avg"] = (upstream["avg"] / x.shape[axis],)
        if "max" in methods:
            least = least_tie(results["max"])
            ties = reduce_expression(
                "sum",
                lambda least, *x: ops.cast(ops.greater_equal(gated(*x), least), least.dtype),
                (least, x, *gates),
                axis,
            )
            shares["max"] = (least, upstream["max"] / ties)
        of_gated = SHARES[tuple(sorted(shares))]
        shares = [part for method in sorted(shares) for part in shares[method]]
        if not gates:
            return (like(inputs, ops.broadcast_to(of_gated(gated(x), *shares), ops.shape(x))),)
        (gate,) = gates
        of_gate = sum_for_gate(
            lambda x, gate, *shares: gated(x, of_gated(gated(x, gate), *shares)),
            (x, gate, *shares),
            gate,
            x,
        )
        return like(inputs, gate * of_gated(gated(x, gate), *shares)), of_gate

    return with_gradient(pools, gradient)


def pools(inputs, methods, axis, channel_axis, gates):
    """Means and maxima of the gated map over one axis.

    Tied maxima share the gradient equally, and so do those that differ by rounding alone.

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        methods: sequence of strings, `"avg"`, `"max"` or both.
        axis: int, axis of the matrix, `1` or `2`.
        channel_axis: int, position of the channels in the inputs.
        gates: list of no or one tensor of shape `(batch, m, 1)` or `(batch, 1, n)`.

    Returns:
        A tensor for each method, of shape `(batch, 1, n)` or `(batch, m, 1)`.
    """
    return list(_pools(tuple(methods), axis, channel_axis)(inputs, *gates))


@functools.cache
def _attended(channel_axis):
    def attended(inputs, *gates):
        return (like(inputs, gated(as_matrix(inputs, channel_axis), *gates)),)

    def gradient(arguments, results, upstream):
        inputs, *gates = arguments
        x, upstream = (as_matrix(tensor, channel_axis) for tensor in (inputs, *upstream))
        of_gates = []
        for i, gate in enumerate(gates):
            others = gates[:i] + gates[i + 1 :]
            of_gates.append(
                sum_for_gate(
                    lambda upstream, *x: gated(upstream, gated(*x)), (upstream, x, *others), gate, x
                )
            )
        return (like(inputs, gated(upstream, *gates)), *of_gates)

    return with_gradient(attended, gradient, keeps_results=False)


def attended(inputs, gates, channel_axis):
    """The gated map, in the shape and dtype of the inputs.

    Args:
        inputs: floating tensor of shape `(batch, ..., channels)` or `(batch, channels, ...)`.
        gates: list of tensors of shape `(batch, m, 1)` or `(batch, 1, n)`.
        channel_axis: int, position of the channels in the inputs.

    Returns:
        Tensor of the shape and dtype of the inputs.
    """
    return _attended(channel_axis)(inputs, *gates)[0]
