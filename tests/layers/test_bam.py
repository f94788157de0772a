import keras
import numpy as np
import pytest

from keras_cbam import BAM
from keras_cbam.cost import count_multiply_adds
from tests.checks import (
    assert_close,
    built,
    check_gradients,
    check_outputs,
    random_input,
    to_numpy,
    weights_of,
)
from tests.layers import oracle


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reduction_ratio": 2},
        {"reduction_ratio": 2, "combine": "multiply"},
        {"reduction_ratio": 3, "dilation_rate": 1},
        {"reduction_ratio": 2, "gate_activation": "hard_sigmoid"},
        {"reduction_ratio": 2, "start_as_identity": True},
        {"reduction_ratio": 2, "start_as_identity": True, "combine": "multiply"},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_agrees_with_the_formulas(arguments, training):
    # Larger than the dilation, so that every part of the kernels is seen; more than two images,
    # of which the normalization would be little more than a sign.
    inputs = random_input((8, 6, 7, 6))
    check_outputs(BAM, oracle.bam, arguments, inputs, training=training)


@pytest.mark.parametrize("shape", [(2, 9, 6), (2, 6, 5, 6), (2, 3, 4, 5, 6)], ids=str)
def test_every_rank_and_data_format(shape):
    inputs = random_input(shape)
    arguments = {"reduction_ratio": 2, "dilation_rate": 2}
    last = built(BAM, {**arguments, "data_format": "channels_last"}, inputs)
    expected = oracle.bam(inputs, weights_of(last), **arguments)
    assert_close(last(inputs, return_attention_scores=True), expected)
    first = BAM(**arguments, data_format="channels_first")
    transposed = np.moveaxis(inputs, -1, 1)
    first.build(transposed.shape)
    first.set_weights(last.get_weights())
    assert_close(np.moveaxis(to_numpy(first(transposed)), 1, -1), expected[0])


@pytest.mark.parametrize("combine", ["add", "multiply"])
def test_gradients(combine):
    # In inference: in training the ReLUs' edges move with the statistics.
    arguments = {"reduction_ratio": 2, "dilation_rate": 2, "combine": combine}
    check_gradients(BAM, oracle.bam, arguments, random_input((2, 4, 3, 4)))


def test_gradients_in_training():
    arguments = {"reduction_ratio": 2, "dilation_rate": 1, "start_as_identity": True}
    check_gradients(BAM, oracle.bam, arguments, random_input((3, 3, 2, 4)), training=True)


def test_moving_statistics():
    inputs = random_input((4, 3, 3, 6))
    layer = built(BAM, {"reduction_ratio": 2}, inputs)
    before = weights_of(layer)
    layer(inputs, training=True)
    after = weights_of(layer)
    hidden = inputs.mean((1, 2)) @ before["hidden_kernel"] + before["hidden_bias"]
    _, moving = oracle.normalize(hidden, oracle.part(before, "channel_norm"), True, momentum=0.9)
    assert_close(after["channel_norm/moving_mean"], moving[0])
    assert_close(after["channel_norm/moving_variance"], moving[1])


def test_multiply_adds():
    inputs = keras.Input((5, 4, 32))
    model = keras.Model(inputs, BAM()(inputs))
    assert count_multiply_adds(model) == 2 * 32 * 2 + 20 * (32 * 2 + 2 * 9 * 2 * 2 + 2)
