import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cbam import BAM, CBAM
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

ARRANGEMENTS = ("channel_spatial", "spatial_channel", "parallel", "channel", "spatial")
SMALL = {"reduction_ratio": 2, "kernel_size": 3}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("scale", [None, 0.0, 0.5, 1.0])
def test_arrangements(arrangement, residual, scale):
    inputs = random_input((2, 5, 4, 6))
    arguments = {"arrangement": arrangement, "residual": residual, **SMALL}
    if scale is not None:
        arguments["start_as_identity"] = True
    check_outputs(CBAM, oracle.cbam, arguments, inputs, identity_scale=scale)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reduction_ratio": 3},
        {"kernel_size": 1, "use_bias": False},
        {"kernel_size": 3, "pooling": ("lse", "lp"), "activation": "tanh"},
        {"kernel_size": 3, "spatial_pooling": ("max", "conv"), "gate_activation": "tanh"},
        {"kernel_size": 3, "use_batch_norm": True},
        {"kernel_size": 3, "use_batch_norm": True, "arrangement": "parallel"},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_arguments_reach_the_gates(arguments, training):
    inputs = random_input((2, 5, 4, 6))
    check_outputs(CBAM, oracle.cbam, arguments, inputs, training)


@pytest.mark.parametrize("arrangement", ["channel_spatial", "parallel"])
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 3, 4, 5), (2, 3, 2, 4, 5)], ids=str)
def test_every_rank_and_data_format(shape, arrangement):
    inputs = random_input(shape)
    arguments = {"arrangement": arrangement, "use_batch_norm": True, **SMALL}
    last = built(CBAM, {**arguments, "data_format": "channels_last"}, inputs)
    outputs, scores = oracle.cbam(inputs, weights_of(last), **arguments)
    assert [score.shape for score in scores] == [
        (2, *[1] * (len(shape) - 2), 5),
        (*shape[:-1], 1),
    ]
    assert_close(last(inputs, return_attention_scores=True), (outputs, scores))
    transposed = np.moveaxis(inputs, -1, 1)
    first = built(CBAM, {**arguments, "data_format": "channels_first"}, transposed)
    first.set_weights(last.get_weights())
    scores = tuple(np.moveaxis(score, -1, 1) for score in scores)
    actual = first(transposed, return_attention_scores=True)
    assert_close(actual, (np.moveaxis(outputs, -1, 1), scores))


@pytest.mark.parametrize("arrangement", ["channel_spatial", "spatial_channel"])
@pytest.mark.parametrize("start_as_identity", [False, True])
def test_scores_are_the_maps_that_multiply_the_inputs(arrangement, start_as_identity):
    inputs = random_input((2, 5, 4, 6))
    arguments = {"arrangement": arrangement, "start_as_identity": start_as_identity, **SMALL}
    layer = built(CBAM, arguments, inputs)
    outputs, (channel, spatial) = layer(inputs, return_attention_scores=True)
    assert_close(outputs, inputs * to_numpy(channel) * to_numpy(spatial), 1e-6)


def test_default_is_the_paper():
    """Equations 1 to 3 written out for one image."""
    inputs = random_input((1, 9, 8, 32))
    layer = built(CBAM, {}, inputs)
    weights = {name.split("/")[-1]: value for name, value in weights_of(layer).items()}

    def mlp(pooled):
        hidden = np.maximum(pooled @ weights["hidden_kernel"] + weights["hidden_bias"], 0)
        return hidden @ weights["output_kernel"] + weights["output_bias"]

    features = inputs[0].astype("float64")
    channel_map = 1 / (1 + np.exp(-mlp(features.mean((0, 1))) - mlp(features.max((0, 1)))))
    features = features * channel_map
    maps = np.stack([features.mean(-1), features.max(-1)], -1)
    maps = np.pad(maps, [(3, 3), (3, 3), (0, 0)])
    logits = [
        [(maps[i : i + 7, j : j + 7] * weights["kernel"][..., 0]).sum() for j in range(8)]
        for i in range(9)
    ]
    spatial_map = 1 / (1 + np.exp(-np.array(logits)[..., None]))
    assert_close(layer(inputs), (features * spatial_map)[None])
    assert weights["hidden_kernel"].shape == (32, 2)
    assert layer.count_params() == 2 * 32 * 2 + 32 + 2 + 98


@pytest.mark.parametrize(("residual", "numbers"), [(False, (2, 2, 1, 1, 1)), (True, (1,) * 5)])
def test_number_of_identity_scales(residual, numbers):
    for arrangement, number in zip(ARRANGEMENTS, numbers):
        layer = CBAM(arrangement=arrangement, residual=residual, start_as_identity=True)
        layer.build((None, None, None, 4))
        assert sum(weight.name == "identity_scale" for weight in layer.weights) == number


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"residual": True, "start_as_identity": True, "use_batch_norm": True}],
    ids=str,
)
def test_gradients_agree_with_finite_differences(arrangement, arguments):
    arguments = {
        "reduction_ratio": 1,
        "kernel_size": 3,
        "activation": "tanh",
        "arrangement": arrangement,
        **arguments,
    }
    training = "use_batch_norm" in arguments
    check_gradients(CBAM, oracle.cbam, arguments, random_input((2, 3, 2, 3)), training)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_inputs_that_are_zero_everywhere(arrangement):
    """As after a ReLU: no NaN, and all the tied maxima share the gradient."""
    with float64():
        inputs = np.zeros((2, 3, 3, 4), EXACT_DTYPE)
        arguments = {"arrangement": arrangement, "pooling": ("avg", "max", "lp", "lse")}
        layer = built(CBAM, {**arguments, "kernel_size": 1, "dtype": EXACT_DTYPE}, inputs)
        of_inputs, of_weights = layer_gradients(layer, inputs)
        assert all(np.isfinite(value).all() for value in (of_inputs, *of_weights.values()))
        # Nothing tells the positions apart, so nothing may favour one of them.
        np.testing.assert_allclose(
            of_inputs, of_inputs[:, :1, :1] + 0 * of_inputs, rtol=EXACT_TOLERANCE
        )


@pytest.mark.parametrize("arrangement", ["channel", "spatial"])
def test_a_missing_gate_has_the_score_none_and_no_symbolic_score(arrangement):
    layer = CBAM(arrangement=arrangement)
    _, scores = layer(random_input((2, 3, 3, 4)), return_attention_scores=True)
    assert [score is None for score in scores] == [
        arrangement == "spatial",
        arrangement != "spatial",
    ]
    with pytest.raises(ValueError, match="Received: arrangement="):
        layer(keras.Input((3, 3, 4)), return_attention_scores=True)


def test_scores_are_outputs_of_a_functional_model():
    inputs = keras.Input((None, None, 4))
    outputs, scores = CBAM()(inputs, return_attention_scores=True)
    model = keras.Model(inputs, [outputs, *scores])
    assert model.output_shape == [(None, None, None, 4), (None, 1, 1, 4), (None, None, None, 1)]
    x = random_input((2, 3, 5, 4))
    expected = model.layers[1](x, return_attention_scores=True)
    assert_close(model.predict(x, verbose=0), [expected[0], *expected[1]], 1e-6)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    space=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    reduction_ratio=st.integers(1, 12),
    kernel_size=st.sampled_from([1, 3, 5]),
    arrangement=st.sampled_from(ARRANGEMENTS),
    use_batch_norm=st.booleans(),
    residual=st.booleans(),
    start_as_identity=st.booleans(),
    data_format=st.sampled_from(["channels_first", "channels_last"]),
)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
def test_any_shape_and_arguments(shape, space, **arguments):
    batch, channels = shape
    last = arguments["data_format"] == "channels_last"
    inputs = random_input((batch, *space, channels) if last else (batch, channels, *space))
    check_outputs(CBAM, oracle.cbam, arguments, inputs)


@pytest.mark.parametrize("layer_class", [CBAM, BAM])
def test_initializers_and_regularizers_reach_the_weights(layer_class):
    layer = layer_class(
        kernel_initializer="ones",
        bias_initializer=keras.initializers.Constant(2.0),
        kernel_regularizer=keras.regularizers.L1(0.5),
        bias_regularizer=keras.regularizers.L2(0.25),
    )
    layer(random_input((1, 2, 3)))
    sizes = {"kernel": [], "bias": []}
    for name, value in weights_of(layer).items():
        kind = name.rpartition("_")[2].rpartition("/")[2]
        if kind in sizes:
            assert (value == {"kernel": 1, "bias": 2}[kind]).all(), name
            sizes[kind].append(value.size)
    assert len(sizes["bias"]) == (2 if layer_class is CBAM else 6)
    expected = [0.5 * size for size in sizes["kernel"]] + sizes["bias"]
    np.testing.assert_allclose(sorted(to_numpy(layer.losses)), sorted(expected), rtol=1e-6)


@pytest.mark.parametrize("reloaded", [False, True])
def test_frozen_from_the_start_keeps_its_statistics(reloaded):
    layer = CBAM(use_batch_norm=True, trainable=False)
    if reloaded:
        layer = CBAM.from_config(layer.get_config())
    inputs = random_input((2, 5, 4, 6))
    layer(inputs, training=True)
    statistics = layer.spatial_attention.batch_norm.non_trainable_weights
    np.testing.assert_array_equal(to_numpy(layer.spatial_attention.batch_norm.moving_mean), 0)
    assert len(statistics) == 4
    layer.trainable = True
    assert len(layer.trainable_weights) == 7
