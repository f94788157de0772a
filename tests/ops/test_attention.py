import numpy as np
import pytest
from keras import ops

from keras_cbam.ops.attention import (
    accumulation_dtype,
    apply_map,
    blend_with_identity,
    channel_logits,
    convolve,
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
        result = pool_over_space(ops.convert_to_tensor(x), [method], axis, None)[0]
        assert_close(result, expected_over_space(x, method, axis), 1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pools_over_channels(shape):
    x = random_input(shape)
    kernel = random_input((9, 3))
    for axis in (1, len(shape) - 1):
        tensor = ops.convert_to_tensor(x)
        assert_close(pool_over_channels(tensor, "avg", axis), x.mean(axis)[..., None], 1e-6)
        assert_close(pool_over_channels(tensor, "max", axis), x.max(axis)[..., None], 0)
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
        result = pool_over_space(x, [method], 3, None)[0]
        assert dtype_of(result) == "float32"
        assert_close(result, np.full((1, 4), expected), 5e-5)
    for method in ("avg", "max"):
        result = pool_over_channels(x, method, 3)
        assert dtype_of(result) == "float32"
        assert_close(result, np.full((1, 64, 64, 1), value), 1e-5)
    result = project_channels(x, ops.ones((4, 2), dtype=dtype), 3)
    assert dtype_of(result) == "float32"
    assert_close(result, np.full((1, 64, 64, 2), 4 * value), 1e-5)


def test_mean_of_many_small_values():
    """A float16 accumulator of ones stops at 2048, a bfloat16 one at 256."""
    for dtype in ("float16", "bfloat16"):
        x = ops.ones((1, 10007, 1), dtype=dtype)
        assert_close(pool_over_space(x, ["avg"], 2, None)[0], np.ones((1, 1)), 1e-6)
        x = ops.ones((1, 1, 10007), dtype=dtype)
        assert_close(pool_over_channels(x, "avg", 2), np.ones((1, 1, 1)), 1e-6)


def test_float64_stays_float64():
    with float64():
        x = np.linspace(0, 1, 24).reshape(2, 3, 4) + 1e-12
        tensor = ops.convert_to_tensor(x)
        for method in ("avg", "max", "lp", "lse"):
            result = pool_over_space(tensor, [method], 2, None)[0]
            assert dtype_of(result) == "float64"
            # On the other backends `keras.ops.mean` itself computes float64 in float32.
            tolerance = 1e-6 if method == "avg" and BACKEND != "tensorflow" else 1e-14
            assert_close(result, expected_over_space(x, method, 2), tolerance)
        for method in ("avg", "max"):
            assert dtype_of(pool_over_channels(tensor, method, 2)) == "float64"
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
    (result,) = gradients(lambda x: ops.sum(pool_over_space(x, ["lp"], 2, None)[0]), x)
    norms = np.linalg.norm(x.astype("float64"), axis=1, keepdims=True)
    assert_close(result, np.where(norms == 0, 0, x / np.where(norms == 0, 1, norms)), 1e-6)


def test_lse_of_large_values_is_finite_and_its_gradient_is_the_softmax():
    for top in (1e4, -1e4, 6e4):
        x = (top + np.array([0.0, 1.0, 2.0, -30.0])).astype("float32").reshape(1, 4, 1)
        expected = np.exp([0.0, 1.0, 2.0, -30.0])
        result = pool_over_space(ops.convert_to_tensor(x), ["lse"], 2, None)[0]
        assert_close(result, np.full((1, 1), top + np.log(expected.sum())), 1e-6)
        (result,) = gradients(lambda x: ops.sum(pool_over_space(x, ["lse"], 2, None)[0]), x)
        # PyTorch takes exp(x - lse), and float32 has steps of 0.004 at 6e4.
        assert_close(result, (expected / expected.sum()).reshape(1, 4, 1), 5e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tied_maxima_share_the_gradient(dtype):
    """All of a channel tied, as after a ReLU; three of six; one alone."""
    x = np.array([[0, 0, 0, 0, 0, 0], [2, 1, 2, 0, 2, 1], [1, 5, 4, 3, 2, 0]], dtype)
    expected = np.array([[1 / 6] * 6, [1 / 3, 0, 1 / 3, 0, 1 / 3, 0], [0, 1, 0, 0, 0, 0]])
    over_channels = x.reshape(3, 1, 6)
    (result,) = gradients(lambda x: ops.sum(pool_over_channels(x, "max", 2)), over_channels)
    assert_close(result, expected.reshape(3, 1, 6), 1e-3)
    over_space = x.reshape(3, 2, 3, 1)
    (result,) = gradients(lambda x: ops.sum(pool_over_space(x, ["max"], 3, None)[0]), over_space)
    assert_close(result, expected.reshape(3, 2, 3, 1), 1e-3)


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("use_bias", [False, True])
def test_channel_logits_sum_the_shared_network_over_descriptors(number, use_bias):
    descriptors = [random_input((3, 6), seed) for seed in range(number)]
    first, second = random_input((6, 2), 10), random_input((2, 6), 11)
    biases = (random_input((2,), 12), random_input((6,), 13)) if use_bias else (0, 0)
    expected = sum(np.tanh(d @ first + biases[0]) @ second + biases[1] for d in descriptors)
    result = channel_logits(
        [ops.convert_to_tensor(d) for d in descriptors],
        (first, second),
        biases if use_bias else None,
        ops.tanh,
    )
    assert_close(result, expected, 1e-6)


@pytest.mark.parametrize("space", [(5,), (5, 4), (3, 2, 4)], ids=str)
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("bias", [None, 0.3])
def test_convolution_sees_zeros_around_the_maps(space, size, bias):
    """Each position by itself: the kernel's window around it, cut at the border."""
    maps = random_input((2, *space, 3)).astype("float64")
    kernel = random_input((*[size] * len(space), 3, 1), 1)
    expected = np.full((2, *space, 1), bias or 0.0)
    for position in np.ndindex(space):
        for other in np.ndindex(space):
            offset = np.subtract(other, position) + size // 2
            if (offset >= 0).all() and (offset < size).all():
                products = maps[(slice(None), *other)] @ kernel[tuple(offset)]
                expected[(slice(None), *position)] += products
    bias = None if bias is None else np.array([bias], "float32")
    result = convolve(ops.convert_to_tensor(maps.astype("float32")), kernel, bias, 1, None)
    assert_close(result, expected, 2e-6)


def test_half_precision_weights_meet_float32_descriptors():
    descriptor = ops.full((1, 4), 6e4, dtype="float32")
    kernels = (ops.ones((4, 4), dtype="float16"), ops.ones((4, 4), dtype="float16"))
    biases = (ops.ones((4,), dtype="float16"), ops.ones((4,), dtype="float16"))
    result = channel_logits([descriptor], kernels, biases, ops.relu)
    assert dtype_of(result) == "float32"
    assert_close(result, np.full((1, 4), 4 * (4 * 6e4 + 1) + 1), 1e-6)
    maps = ops.full((1, 3, 3, 2), 6e4, dtype="float32")
    weights = ops.ones((1, 1, 2, 1), dtype="float16"), ops.ones((1,), dtype="float16")
    result = convolve(maps, *weights, 1, None)
    assert dtype_of(result) == "float32"
    assert_close(result, np.full((1, 3, 3, 1), 12e4 + 1), 1e-6)


def test_blend_with_identity():
    gate = ops.convert_to_tensor(np.linspace(0, 1, 33, dtype="float32"))
    np.testing.assert_array_equal(to_numpy(blend_with_identity(gate, 0.0)), np.ones(33))
    np.testing.assert_array_equal(to_numpy(blend_with_identity(gate, 1.0)), to_numpy(gate))
    assert_close(blend_with_identity(gate, 0.25), 0.75 + 0.25 * to_numpy(gate), 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_map_is_applied_in_its_own_dtype(dtype):
    inputs = ops.cast(random_input((2, 3, 4, 5)), dtype)
    attention_map = ops.convert_to_tensor(random_input((2, 1, 1, 5), 1))
    outputs = apply_map(inputs, attention_map)
    assert dtype_of(outputs) == "float32"
    expected = to_numpy(inputs).astype("float32") * to_numpy(attention_map).astype("float32")
    np.testing.assert_array_equal(to_numpy(outputs), expected)


def test_gradient_of_a_map_is_summed_in_float32():
    inputs = np.full((1, 64, 64, 2), 6e4, "float16")
    attention_map = np.full((1, 1, 1, 2), 0.5, "float32")
    of_inputs, of_map = gradients(
        lambda inputs, attention_map: ops.sum(apply_map(inputs, attention_map)),
        inputs,
        attention_map,
    )
    assert_close(of_inputs, np.full(inputs.shape, 0.5), 1e-3)
    assert_close(of_map, np.full(attention_map.shape, 4096 * 6e4), 1e-3)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("method", ["avg", "max", "lp", "lse"])
def test_pools_over_real_steps(method, axis):
    """The padding is large, so that a pool would see it; one example has no real step."""
    x = random_input((3, 5, 4))
    mask = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0] * 5], bool)
    expected = [expected_over_space(x[i : i + 1, mask[i]], method, 2) for i in range(2)]
    expected = np.concatenate([*expected, np.zeros((1, 4))])
    x[~mask] = 1e3
    x = np.moveaxis(x, 2, axis)

    def pool(x):
        return pool_over_space(x, [method], axis, ops.convert_to_tensor(mask))[0]

    assert_close(pool(ops.convert_to_tensor(x)), expected, 1e-6)
    (of_x,) = gradients(lambda x: ops.sum(pool(x)), x)
    of_x = np.moveaxis(of_x, axis, 2)
    np.testing.assert_array_equal(of_x[~mask], 0)
    assert np.abs(of_x[:2].sum(1)).min() > 1e-3
    assert np.isfinite(of_x).all()


def test_convolution_sees_zeros_at_padded_steps():
    maps = random_input((2, 7, 3))
    mask = np.array([[1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1, 1]], bool)
    kernel, bias = random_input((3, 3, 2), 1), np.ones(2, "float32")
    expected = convolve(ops.convert_to_tensor(maps * mask[..., None]), kernel, bias, 2, None)
    maps[~mask] = np.nan
    masked = convolve(ops.convert_to_tensor(maps), kernel, bias, 2, ops.convert_to_tensor(mask))
    assert_close(masked, to_numpy(expected), 1e-6)
