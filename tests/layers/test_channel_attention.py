import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cbam import ChannelAttention
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

POOLINGS = ("avg", "max", "lp", "lse")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reduction_ratio": 1},
        {"reduction_ratio": 3},
        {"reduction_ratio": 4, "activation": "tanh"},
        {"reduction_ratio": 2, "use_bias": False},
        {"reduction_ratio": 2, "gate_activation": "hard_sigmoid"},
        {"reduction_ratio": 2, "gate_activation": "tanh", "activation": "linear"},
        {"reduction_ratio": 2, "pooling": "avg"},
        {"reduction_ratio": 2, "pooling": ("max",)},
        {"reduction_ratio": 2, "pooling": ["lp"]},
        {"reduction_ratio": 2, "pooling": ("lse",)},
        {"reduction_ratio": 2, "pooling": ("lse", "avg", "lp")},
        {"reduction_ratio": 2, "pooling": POOLINGS, "use_bias": False},
        {"reduction_ratio": 2, "start_as_identity": True},
    ],
    ids=str,
)
def test_agrees_with_the_formulas(arguments):
    inputs = random_input((2, 4, 3, 8))
    check_outputs(ChannelAttention, oracle.channel_attention, arguments, inputs)


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 3, 4, 6), (2, 3, 2, 4, 6)], ids=str)
def test_every_rank_and_data_format(shape):
    inputs = random_input(shape)
    arguments = {"reduction_ratio": 2, "pooling": POOLINGS}
    last = built(ChannelAttention, {**arguments, "data_format": "channels_last"}, inputs)
    expected = oracle.channel_attention(inputs, weights_of(last), **arguments)
    assert expected[1].shape == (2, *[1] * (len(shape) - 2), 6)
    assert_close(last(inputs, return_attention_scores=True), expected)
    transposed = np.moveaxis(inputs, -1, 1)
    first = built(ChannelAttention, {**arguments, "data_format": "channels_first"}, transposed)
    first.set_weights(last.get_weights())
    expected = tuple(np.moveaxis(value, -1, 1) for value in expected)
    assert_close(first(transposed, return_attention_scores=True), expected)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_identity_scale_blends_the_gate_with_ones(scale):
    inputs = random_input((2, 4, 3, 8))
    arguments = {"start_as_identity": True, "reduction_ratio": 2}
    layer = built(ChannelAttention, arguments, inputs, identity_scale=scale)
    _, gate = oracle.channel_attention(inputs, weights_of(layer), reduction_ratio=2)
    gate = 1 + scale * (gate - 1)
    assert_close(layer(inputs, return_attention_scores=True), (inputs * gate, gate))


@pytest.mark.parametrize(
    ("channels", "ratio", "hidden"), [(8, 16, 1), (16, 16, 1), (31, 16, 1), (32, 16, 2), (9, 2, 4)]
)
def test_hidden_units(channels, ratio, hidden):
    layer = ChannelAttention(reduction_ratio=ratio)
    layer.build((None, None, channels))
    assert layer.count_params() == 2 * channels * hidden + channels + hidden


@pytest.mark.parametrize(
    "arguments",
    [
        {"pooling": ("avg",)},
        {"pooling": ("max",)},
        {"pooling": ("lp",)},
        {"pooling": ("lse",)},
        {"pooling": POOLINGS, "use_bias": False, "start_as_identity": True},
        {"data_format": "channels_first", "gate_activation": "tanh"},
    ],
    ids=str,
)
def test_gradients_agree_with_finite_differences(arguments):
    inputs = random_input((2, 3, 2, 4))
    arguments = {"reduction_ratio": 1, "activation": "tanh", **arguments}
    check_gradients(ChannelAttention, oracle.channel_attention, arguments, inputs)


def test_gradients_through_relu():
    inputs = random_input((2, 3, 2, 4))
    check_gradients(ChannelAttention, oracle.channel_attention, {"reduction_ratio": 1}, inputs)


@pytest.mark.parametrize("pooling", [*POOLINGS, POOLINGS], ids=str)
def test_channels_that_are_zero_everywhere(pooling):
    """As after a ReLU: no NaN, and all the tied maxima share the gradient."""
    with float64():
        inputs = np.maximum(random_input((2, 3, 2, 4)), 0).astype(EXACT_DTYPE)
        inputs[..., :2] = 0
        arguments = {"pooling": pooling, "reduction_ratio": 1, "dtype": EXACT_DTYPE}
        layer = built(ChannelAttention, {**arguments, "activation": "linear"}, inputs)
        of_inputs, of_weights = layer_gradients(layer, inputs)
        assert all(np.isfinite(value).all() for value in (of_inputs, *of_weights.values()))
        zeros = of_inputs[..., :2]
        assert np.abs(zeros).min() > 0
        np.testing.assert_allclose(zeros, zeros[:, :1, :1] + 0 * zeros, rtol=EXACT_TOLERANCE)
        gate = to_numpy(layer(inputs, return_attention_scores=True)[1])[..., :2]
        if pooling == "lp":
            # Its gradient at zero is 0: what is left is the gate's own.
            np.testing.assert_allclose(zeros, gate / inputs.size + 0 * zeros, rtol=EXACT_TOLERANCE)
        else:
            assert np.abs(zeros - gate / inputs.size).max() > 1e-6


def test_both_kernels_draw_their_own_values():
    """An initializer object gives equal values to equal shapes, so each weight needs its copy."""
    given_object = keras.initializers.RandomNormal()
    for initializer in ("glorot_uniform", given_object):
        layer = ChannelAttention(reduction_ratio=1, kernel_initializer=initializer)
        layer.build((None, 4, 6))
        first, second = to_numpy(layer.hidden_kernel), to_numpy(layer.output_kernel)
        assert first.shape == second.shape == (6, 6)
        assert np.abs(first - second).max() > 1e-3


def test_initializers_and_regularizers_reach_the_weights():
    layer = ChannelAttention(
        kernel_initializer="ones",
        bias_initializer=keras.initializers.Constant(2.0),
        kernel_regularizer=keras.regularizers.L1(0.5),
        bias_regularizer=keras.regularizers.L2(0.25),
    )
    inputs = random_input((1, 2, 3))
    layer(inputs)
    values = weights_of(layer)
    assert (values["hidden_kernel"] == 1).all()
    assert (values["output_kernel"] == 1).all()
    assert (values["hidden_bias"] == 2).all()
    assert (values["output_bias"] == 2).all()
    # 2 kernels of 3 ones; 1 + 3 biases of 2.
    np.testing.assert_allclose(sorted(to_numpy(layer.losses)), [1, 1.5, 1.5, 3])


def test_squeeze_and_excitation_is_the_average_pool_alone():
    inputs = random_input((2, 4, 3, 8))
    layer = built(ChannelAttention, {"pooling": ("avg",), "reduction_ratio": 4}, inputs)
    excite = keras.Sequential(
        [
            keras.layers.GlobalAveragePooling2D(keepdims=True),
            keras.layers.Dense(2, activation="relu"),
            keras.layers.Dense(8, activation="sigmoid"),
        ]
    )
    excite.build(inputs.shape)
    weights = {name: value.astype("float32") for name, value in weights_of(layer).items()}
    names = ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias")
    excite.set_weights([weights[name] for name in names])
    assert_close(layer(inputs), to_numpy(excite(inputs)) * inputs)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    space=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    pooling=st.lists(st.sampled_from(POOLINGS), min_size=1, unique=True).map(tuple),
    reduction_ratio=st.integers(1, 12),
    use_bias=st.booleans(),
    start_as_identity=st.booleans(),
    data_format=st.sampled_from(["channels_first", "channels_last"]),
)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
def test_any_shape_and_arguments(shape, space, **arguments):
    batch, channels = shape
    last = arguments["data_format"] == "channels_last"
    inputs = random_input((batch, *space, channels) if last else (batch, channels, *space))
    check_outputs(ChannelAttention, oracle.channel_attention, arguments, inputs)
