import numpy as np
import pytest
from keras import ops

from keras_cbam.ops.refine import apply_gates, blend_with_identity, channel_logits, spatial_logits
from tests.checks import assert_close, dtype_of, gradients, random_input, to_numpy


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
def test_spatial_logits_convolve_with_zeros_around_the_maps(space, size, bias):
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
    result = spatial_logits(ops.convert_to_tensor(maps.astype("float32")), kernel, bias)
    assert_close(result, expected, 2e-6)


def test_half_precision_weights_meet_float32_descriptors():
    descriptor = ops.full((1, 4), 6e4, dtype="float32")
    kernels = (ops.ones((4, 4), dtype="float16"), ops.ones((4, 4), dtype="float16"))
    biases = (ops.ones((4,), dtype="float16"), ops.ones((4,), dtype="float16"))
    result = channel_logits([descriptor], kernels, biases, ops.relu)
    assert dtype_of(result) == "float32"
    assert_close(result, np.full((1, 4), 4 * (4 * 6e4 + 1) + 1), 1e-6)
    maps = ops.full((1, 3, 3, 2), 6e4, dtype="float32")
    result = spatial_logits(
        maps, ops.ones((1, 1, 2, 1), dtype="float16"), ops.ones((1,), dtype="float16")
    )
    assert dtype_of(result) == "float32"
    assert_close(result, np.full((1, 3, 3, 1), 12e4 + 1), 1e-6)


def test_blend_with_identity():
    gate = ops.convert_to_tensor(np.linspace(0, 1, 33, dtype="float32"))
    np.testing.assert_array_equal(to_numpy(blend_with_identity(gate, 0.0)), np.ones(33))
    np.testing.assert_array_equal(to_numpy(blend_with_identity(gate, 1.0)), to_numpy(gate))
    assert_close(blend_with_identity(gate, 0.25), 0.75 + 0.25 * to_numpy(gate), 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_apply_gates_multiplies_in_the_gate_s_dtype(dtype):
    inputs = ops.cast(random_input((2, 3, 4, 5)), dtype)
    gate = ops.convert_to_tensor(random_input((2, 1, 1, 5), 1))
    outputs = apply_gates(inputs, [gate], 3)
    assert dtype_of(outputs) == dtype
    expected = ops.cast(to_numpy(inputs) * to_numpy(gate), "float32")
    np.testing.assert_array_equal(to_numpy(outputs), to_numpy(ops.cast(expected, dtype)))


def test_gradient_of_a_gate_is_summed_in_float32():
    inputs = np.full((1, 64, 64, 2), 6e4, "float16")
    gate = np.full((1, 1, 1, 2), 0.5, "float32")
    of_inputs, of_gate = gradients(
        lambda inputs, gate: ops.sum(ops.cast(apply_gates(inputs, [gate], 3), "float32")),
        inputs,
        gate,
    )
    assert_close(of_inputs, np.full(inputs.shape, 0.5), 1e-3)
    assert_close(of_gate, np.full(gate.shape, 4096 * 6e4), 1e-3)
