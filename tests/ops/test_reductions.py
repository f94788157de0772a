import numpy as np
import pytest
from keras import ops

from keras_cbam.ops import reductions
from tests.checks import assert_close, random_input, to_numpy

# (m, n): both divide well, badly, or not at all; one is 1.
SIZES = [(16, 32), (12, 24), (49, 2048), (7, 13), (6, 16), (1, 64), (48, 1), (5, 1088)]


@pytest.mark.parametrize("written_out", [False, True])
@pytest.mark.parametrize("method", ["sum", "max"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_reduces_a_broadcast_expression(size, method, written_out, monkeypatch):
    monkeypatch.setattr(reductions, "compiles_for_cpu", lambda: written_out)
    m, n = size
    x, row, column = random_input((2, m, n)), random_input((2, 1, n), 1), random_input((2, m, 1), 2)
    expected = x.astype("float64") * row + column
    tensors = [ops.convert_to_tensor(array) for array in (x, row, column)]
    for axis in (1, 2):
        result = reductions.reduce_expression(method, lambda x, r, c: x * r + c, tensors, axis)
        assert_close(result, getattr(expected, method)(axis, keepdims=True), 1e-6)


@pytest.mark.parametrize(("size", "number"), [(64, 4), (1024, 64), (2048, 32), (24, 3), (13, None)])
def test_the_parts_of_the_last_axis_are_vectors(size, number):
    x = ops.convert_to_tensor(random_input((2, 3, size)))
    parts = reductions.vector_parts([x, x[:, :, :1]])
    assert (parts and len(parts)) == number
    if parts:
        assert_close(ops.concatenate([part for part, _ in parts], axis=2), to_numpy(x), 0)
        assert all(other.shape == (2, 3, 1) for _, other in parts)


@pytest.mark.parametrize(("size", "number"), [(3136, 16), (196, 14), (49, 7), (13, 13), (17, None)])
def test_the_parts_of_the_rows_are_all_rows(size, number):
    x = ops.convert_to_tensor(random_input((2, size, 3)))
    parts = reductions.row_parts([x, x[:, :1]])
    assert (parts and len(parts)) == number
    if parts:
        stacked = np.stack([to_numpy(part) for part, _ in parts], axis=2)
        assert_close(stacked.reshape(2, size, 3), to_numpy(x), 0)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 16])
def test_pairs(number):
    terms = [[i] for i in range(number)]
    assert reductions.combine_in_pairs(lambda a, b: a + b, terms) == list(range(number))
