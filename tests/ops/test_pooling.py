import numpy as np
import pytest
from keras import ops

from keras_cbam.ops.lean import least_tie, share_of_max
from keras_cbam.ops.matrices import accumulation_dtype
from keras_cbam.ops.pooling import (
    pool_over_channels,
    pool_over_space,
    project_channels,
)
from tests.checks import BACKEND, assert_close, dtype_of, float64, gradients, random_input, to_numpy

SHAPES = [(2, 5, 4), (2, 3, 5, 4), (2, 3, 2, 5, 4)]


def expected_over_space(x, method, axis):
    flat = np.moveaxis(x.astype("float64"), axis, 1)
    flat = flat.reshape(*flat.shape[:2], -1)
    return {
        "avg": lambda: flat.mean(-1),
        "max": lambda: flat.max(-1),
        "lp": lambda: np.linalg.norm(flat, axis=-1),
        "lse": lambda: np.log(np.exp(flat).sum(-1)),
    }[method]()


@pytest.mark.parametrize("method", ["avg", "max", "lp", "lse"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pools_over_space(shape, method):
    x = random_input(shape)
    for axis in (1, len(shape) - 1):
        result = pool_over_space(ops.convert_to_tensor(x), [method], axis)[0]
        assert_close(result, expected_over_space(x, method, axis), 1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pools_over_channels(shape):
    x = random_input(shape)
    kernel = random_input((9, 3))
    for axis in (1, len(shape) - 1):
        tensor = ops.convert_to_tensor(x)
        assert_close(pool_over_channels(tensor, ["avg"], axis)[0], x.mean(axis), 1e-6)
        assert_close(pool_over_channels(tensor, ["max"], axis)[0], x.max(axis), 0)
        weights = kernel[: shape[axis]]
        expected = np.moveaxis(x, axis, -1) @ weights
        assert_close(project_channels(tensor, weights, axis), expected, 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_accumulates_in_float32(dtype):
    """The sums here are beyond float16's 65504, or between its numbers."""
    x = ops.full((1, 64, 64, 4), 6e4, dtype=dtype)
    value = float(to_numpy(x)[0, 0, 0, 0])
    assert abs(value - 6e4) < 100
    for method, expected in {
        "avg": value,
        "max": value,
        "lp": value * 64,
        "lse": value + np.log(4096),
    }.items():
        result = pool_over_space(x, [method], 3)[0]
        assert dtype_of(result) == "float32"
        assert_close(result, np.full((1, 4), expected), 5e-5)
    for method in ("avg", "max"):
        result = pool_over_channels(x, [method], 3)[0]
        assert dtype_of(result) == "float32"
        assert_close(result, np.full((1, 64, 64), value), 1e-5)
    result = project_channels(x, ops.ones((4, 2), dtype=dtype), 3)
    assert dtype_of(result) == "float32"
    assert_close(result, np.full((1, 64, 64, 2), 4 * value), 1e-5)


def test_mean_of_many_small_values():
    """A float16 accumulator of ones stops at 2048, a bfloat16 one at 256."""
    for dtype in ("float16", "bfloat16"):
        x = ops.ones((1, 10007, 1), dtype=dtype)
        assert_close(pool_over_space(x, ["avg"], 2)[0], np.ones((1, 1)), 1e-6)
        x = ops.ones((1, 1, 10007), dtype=dtype)
        assert_close(pool_over_channels(x, ["avg"], 2)[0], np.ones((1, 1)), 1e-6)


def test_float64_stays_float64():
    with float64():
        x = np.linspace(0, 1, 24).reshape(2, 3, 4) + 1e-12
        tensor = ops.convert_to_tensor(x)
        for method in ("avg", "max", "lp", "lse"):
            result = pool_over_space(tensor, [method], 2)[0]
            assert dtype_of(result) == "float64"
            # On the other backends `keras.ops.mean` itself computes float64 in float32.
            tolerance = 1e-6 if method == "avg" and BACKEND != "tensorflow" else 1e-14
            assert_close(result, expected_over_space(x, method, 2), tolerance)
        for method in ("avg", "max"):
            assert dtype_of(pool_over_channels(tensor, [method], 2)[0]) == "float64"
        assert dtype_of(project_channels(tensor, x[0, 0, :, None], 2)) == "float64"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_accumulation_dtype(dtype, expected):
    assert accumulation_dtype(dtype) == expected


def test_gradient_of_lp_at_zero_is_zero():
    x = random_input((1, 4, 3))
    x[..., 1] = 0
    (result,) = gradients(lambda x: ops.sum(pool_over_space(x, ["lp"], 2)[0]), x)
    norms = np.linalg.norm(x.astype("float64"), axis=1, keepdims=True)
    assert_close(result, np.where(norms == 0, 0, x / np.where(norms == 0, 1, norms)), 1e-6)


def test_lse_of_large_values_is_finite_and_its_gradient_is_the_softmax():
    for top in (1e4, -1e4, 6e4):
        x = (top + np.array([0.0, 1.0, 2.0, -30.0])).astype("float32").reshape(1, 4, 1)
        expected = np.exp([0.0, 1.0, 2.0, -30.0])
        result = pool_over_space(ops.convert_to_tensor(x), ["lse"], 2)[0]
        assert_close(result, np.full((1, 1), top + np.log(expected.sum())), 1e-6)
        (result,) = gradients(lambda x: ops.sum(pool_over_space(x, ["lse"], 2)[0]), x)
        # PyTorch takes exp(x - lse), and float32 has steps of 0.004 at 6e4.
        assert_close(result, (expected / expected.sum()).reshape(1, 4, 1), 5e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tied_maxima_share_the_gradient(dtype):
    """All of a channel tied, as after a ReLU; three of six; one alone."""
    x = np.array([[0, 0, 0, 0, 0, 0], [2, 1, 2, 0, 2, 1], [1, 5, 4, 3, 2, 0]], dtype)
    expected = np.array([[1 / 6] * 6, [1 / 3, 0, 1 / 3, 0, 1 / 3, 0], [0, 1, 0, 0, 0, 0]])
    over_channels = x.reshape(3, 1, 6)
    (result,) = gradients(lambda x: ops.sum(pool_over_channels(x, ["max"], 2)[0]), over_channels)
    assert_close(result, expected.reshape(3, 1, 6), 1e-3)
    over_space = x.reshape(3, 2, 3, 1)
    (result,) = gradients(lambda x: ops.sum(pool_over_space(x, ["max"], 3)[0]), over_space)
    assert_close(result, expected.reshape(3, 2, 3, 1), 1e-3)


def test_a_maximum_that_is_rounded_otherwise_is_still_found():
    """In the gradient it is computed again, and compilers may round it otherwise."""
    tops = np.array([[[3.7, -2.1, 0.0, np.inf, -np.inf, 1e-30, 3e38]]], "float32")
    for direction in (0, np.inf, -np.inf):
        again = np.nextafter(tops, np.float32(direction))
        again = np.where(np.isfinite(tops) & (tops != 0), again, tops)
        shares = share_of_max(
            ops.convert_to_tensor(again), least_tie(ops.convert_to_tensor(tops)), 1.0
        )
        assert_close(shares, np.ones(tops.shape), 0)
    others = np.array([[[3.69, -2.11, -1e-30, 3e38, -np.inf, 9e-31, 2.9e38]]], "float32")
    shares = share_of_max(
        ops.convert_to_tensor(others), least_tie(ops.convert_to_tensor(tops)), 1.0
    )
    assert_close(shares, np.array([[[0, 0, 0, 0, 1, 0, 0]]]), 0)
