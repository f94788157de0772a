"""Feature maps as matrices, and the dtype to compute in."""

import math

import keras
from keras import ops


def accumulation_dtype(dtype):
    """The dtype in which pools, gates and their sums are computed: at least float32."""
    dtype = keras.backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def as_matrix_shape(tensor, channel_axis):
    """`(positions, channels)` or `(channels, positions)`, as the channels stand."""
    shape = tensor.shape
    if channel_axis == 1:
        return shape[1], math.prod(shape[2:])
    return math.prod(shape[1:-1]), shape[-1]


def as_matrix(tensor, channel_axis):
    return ops.reshape(tensor, (-1, *as_matrix_shape(tensor, channel_axis)))
