import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cbam import SpatialAttention
from tests.checks import (
    EXACT_DTYPE,
    EXACT_TOLERANCE,
    EXAMPLES,
    assert_close,
    built,
    check_gradients,
    check_outputs,
    float64,
    layer_gradients,
    random_input,
    to_numpy,
    weights_of,
)
from tests.layers import oracle

POOLINGS = ("avg", "max", "conv")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"kernel_size": 1},
        {"kernel_size": 3, "gate_activation": "tanh"},
        {"kernel_size": 3, "pooling": "avg"},
        {"kernel_size": 3, "pooling": ("max",)},
        {"kernel_size": 3, "pooling": ["conv"]},
        {"kernel_size": 3, "pooling": ("max", "avg")},
        {"kernel_size": 3, "pooling": POOLINGS},
        {"kernel_size": 3, "pooling": ("conv", "max"), "use_bias": True},
        {"use_bias": True},
        {"kernel_size": 3, "use_batch_norm": True},
        {"kernel_size": 3, "use_batch_norm": True, "use_bias": True, "start_as_identity": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_agrees_with_the_formulas(arguments, training):
    inputs = random_input((2, 5, 4, 6))
    check_outputs(SpatialAttention, oracle.spatial_attention, arguments, inputs, training)


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 3, 4, 5), (2, 3, 2, 4, 5)], ids=str)
def test_every_rank_and_data_format(shape):
    inputs = random_input(shape)
    arguments = {"kernel_size": 3, "pooling": POOLINGS, "use_batch_norm": True, "use_bias": True}
    last = built(SpatialAttention, {**arguments, "data_format": "channels_last"}, inputs)
    expected = oracle.spatial_attention(inputs, weights_of(last), **arguments)
    assert expected[1].shape == (*shape[:-1], 1)
    assert_close(last(inputs, return_attention_scores=True), expected)
    transposed = np.moveaxis(inputs, -1, 1)
    first = built(SpatialAttention, {**arguments, "data_format": "channels_first"}, transposed)
    first.set_weights(last.get_weights())
    expected = tuple(np.moveaxis(value, -1, 1) for value in expected)
    assert_close(first(transposed, return_attention_scores=True), expected)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_identity_scale_blends_the_gate_with_ones(scale):
    inputs = random_input((2, 5, 4, 6))
    layer = built(SpatialAttention, {"start_as_identity": True}, inputs, identity_scale=scale)
    _, gate = oracle.spatial_attention(inputs, weights_of(layer))
    gate = 1 + scale * (gate - 1)
    assert_close(layer(inputs, return_attention_scores=True), (inputs * gate, gate))


def test_batch_norm_starts_at_zero_and_moves_its_statistics():
    inputs = random_input((2, 5, 4, 6))
    layer = SpatialAttention(kernel_size=3, use_batch_norm=True)
    _, scores = layer(inputs, return_attention_scores=True)
    np.testing.assert_array_equal(to_numpy(scores), np.full((2, 5, 4, 1), 0.5))
    start = weights_of(layer)
    assert {name: float(value[0]) for name, value in start.items() if name != "kernel"} == {
        "batch_norm/gamma": 0,
        "batch_norm/beta": 0,
        "batch_norm/moving_mean": 0,
        "batch_norm/moving_variance": 1,
    }
    layer.kernel.assign(random_input(layer.kernel.shape, seed=3))
    layer.batch_norm.moving_mean.assign([0.7])
    before = weights_of(layer)
    layer(inputs, training=False)
    assert_close(layer.batch_norm.moving_mean, np.array([0.7]), 1e-7)
    layer(inputs, training=True)
    logits = oracle.spatial_logits(inputs, before, 3, ("avg", "max"), False, False, False)
    _, (mean, variance) = oracle.normalize(logits, oracle.part(before, "batch_norm"), True)
    assert abs(logits.mean() - 0.7) > 0.1
    assert abs(logits.var() - 1) > 0.1
    assert_close(layer.batch_norm.moving_mean, mean)
    assert_close(layer.batch_norm.moving_variance, variance)


def test_frozen_batch_norm_normalizes_with_its_moving_statistics():
    inputs = random_input((2, 5, 4, 6))
    layer = built(SpatialAttention, {"use_batch_norm": True}, inputs)
    layer.trainable = False
    before = weights_of(layer)
    expected = oracle.spatial_attention(inputs, before, use_batch_norm=True, training=False)
    assert_close(layer(inputs, training=True), expected[0])
    assert all(np.array_equal(before[name], value) for name, value in weights_of(layer).items())


@pytest.mark.parametrize(
    ("arguments", "training"),
    [
        ({"pooling": ("avg",), "kernel_size": 1}, False),
        ({"pooling": ("max",), "use_bias": True}, False),
        ({"pooling": ("conv",), "start_as_identity": True}, False),
        ({"pooling": ("max", "avg"), "gate_activation": "tanh"}, False),
        ({"pooling": POOLINGS, "data_format": "channels_first", "use_batch_norm": True}, False),
        ({"pooling": POOLINGS, "data_format": "channels_first", "use_batch_norm": True}, True),
    ],
    ids=str,
)
def test_gradients_agree_with_finite_differences(arguments, training):
    arguments = {"kernel_size": 3, **arguments}
    inputs = random_input((2, 3, 2, 4))
    check_gradients(SpatialAttention, oracle.spatial_attention, arguments, inputs, training)


@pytest.mark.parametrize("pooling", [*POOLINGS, POOLINGS], ids=str)
def test_positions_that_are_zero_in_every_channel(pooling):
    """As after a ReLU: no NaN, and all the tied maxima share the gradient."""
    with float64():
        inputs = np.maximum(random_input((2, 3, 2, 4)), 0).astype(EXACT_DTYPE)
        inputs[:, :2] = 0
        layer = built(SpatialAttention, {"pooling": pooling, "dtype": EXACT_DTYPE}, inputs)
        of_inputs, of_weights = layer_gradients(layer, inputs)
        assert all(np.isfinite(value).all() for value in (of_inputs, *of_weights.values()))
        zeros = of_inputs[:, :2]
        gate = to_numpy(layer(inputs, return_attention_scores=True)[1])[:, :2]
        assert np.abs(zeros - gate / inputs.size).max() > 1e-6
        if pooling in ("avg", "max"):
            np.testing.assert_allclose(zeros, zeros[..., :1] + 0 * zeros, rtol=EXACT_TOLERANCE)


def test_initializers_and_regularizers_reach_the_weights():
    layer = SpatialAttention(
        kernel_size=1,
        pooling=("avg", "conv"),
        use_bias=True,
        kernel_initializer="ones",
        bias_initializer=keras.initializers.Constant(2.0),
        kernel_regularizer=keras.regularizers.L1(0.5),
        bias_regularizer=keras.regularizers.L2(0.25),
    )
    layer(random_input((1, 2, 3)))
    values = weights_of(layer)
    assert values["kernel"].shape == (1, 3, 1)
    assert values["pooling_kernel"].shape == (3, 2)
    assert (values["kernel"] == 1).all()
    assert (values["pooling_kernel"] == 1).all()
    assert (values["bias"] == 2).all()
    np.testing.assert_allclose(sorted(to_numpy(layer.losses)), [1, 1.5, 3])


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    space=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    kernel_size=st.sampled_from([1, 3, 5]),
    pooling=st.lists(st.sampled_from(POOLINGS), min_size=1, unique=True).map(tuple),
    use_bias=st.booleans(),
    use_batch_norm=st.booleans(),
    start_as_identity=st.booleans(),
    data_format=st.sampled_from(["channels_first", "channels_last"]),
)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
def test_any_shape_and_arguments(shape, space, **arguments):
    batch, channels = shape
    last = arguments["data_format"] == "channels_last"
    inputs = random_input((batch, *space, channels) if last else (batch, channels, *space))
    check_outputs(SpatialAttention, oracle.spatial_attention, arguments, inputs)
