import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cbam import ChannelAttention, ConvolutionControl
from tests.checks import (
    EXAMPLES,
    assert_close,
    built,
    check_gradients,
    check_outputs,
    random_input,
    to_numpy,
    weights_of,
)
from tests.layers import oracle


@pytest.mark.parametrize("start_as_identity", [False, True])
def test_gradients(start_as_identity):
    arguments = {"reduction_ratio": 2, "start_as_identity": start_as_identity}
    inputs = random_input((2, 3, 2, 4))
    check_gradients(ConvolutionControl, oracle.convolution_control, arguments, inputs)


@pytest.mark.parametrize(("channels", "reduction_ratio"), [(8, 16), (24, 4), (64, 16)])
def test_as_many_parameters_as_the_mlp_of_channel_attention(channels, reduction_ratio):
    numbers = []
    for layer_class in (ChannelAttention, ConvolutionControl):
        layer = layer_class(reduction_ratio=reduction_ratio, start_as_identity=True)
        layer.build((None, None, None, channels))
        numbers.append(layer.count_params())
    assert numbers[0] == numbers[1]


def test_a_position_is_seen_alone():
    inputs = random_input((1, 4, 3, 8))
    layer = built(ConvolutionControl, {}, inputs)
    changed = inputs.copy()
    changed[0, 1, 2] += 1
    differs = np.abs(to_numpy(layer(changed)) - to_numpy(layer(inputs))).max(axis=-1)[0] > 0
    assert np.argwhere(differs).tolist() == [[1, 2]]


def test_an_identity_at_one_is_the_plain_layer():
    inputs = random_input((2, 4, 3, 8))
    plain = built(ConvolutionControl, {}, inputs)
    blended = built(ConvolutionControl, {"start_as_identity": True}, inputs, identity_scale=1.0)
    for name, value in weights_of(plain).items():
        next(w for w in blended.weights if w.name == name).assign(value)
    assert_close(blended(inputs), to_numpy(plain(inputs)), 1e-6)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    space=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    reduction_ratio=st.integers(1, 20),
    start_as_identity=st.booleans(),
    data_format=st.sampled_from(["channels_first", "channels_last"]),
)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
def test_any_shape_and_arguments(shape, space, **arguments):
    batch, channels = shape
    last = arguments["data_format"] == "channels_last"
    inputs = random_input((batch, *space, channels) if last else (batch, channels, *space))
    check_outputs(ConvolutionControl, oracle.convolution_control, arguments, inputs)
