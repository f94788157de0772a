"""Masks: what is padded is not seen, and the mask is passed on."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import BAM, CBAM, ChannelAttention, ConvolutionControl, SpatialAttention
from keras_cbam.ops import fused_cbam
from tests.checks import BACKEND, assert_close, built, case_id, random_input, to_numpy, weights_of

LAYERS = [ChannelAttention, SpatialAttention, CBAM, BAM, ConvolutionControl]
CASES = [
    (ChannelAttention, {"pooling": ("avg", "max", "lp", "lse")}),
    (SpatialAttention, {"pooling": ("avg", "max", "conv"), "use_batch_norm": True}),
    *(
        (CBAM, {"arrangement": arrangement, "use_batch_norm": True})
        for arrangement in ("channel_spatial", "spatial_channel", "parallel", "channel", "spatial")
    ),
    (CBAM, {"residual": True, "start_as_identity": True, "kernel_size": 3}),
    (BAM, {"reduction_ratio": 2}),
    (ConvolutionControl, {"reduction_ratio": 2}),
    (BAM, {"reduction_ratio": 8, "combine": "multiply", "dilation_rate": 1}),
]


def padded(tokens, before, after):
    """The tokens between large values, and the mask."""
    inputs = np.pad(tokens, [(0, 0), (before, after), (0, 0)], constant_values=1e3)
    mask = np.zeros(inputs.shape[:2], bool)
    mask[:, before : before + tokens.shape[1]] = True
    return inputs, mask


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("layer_class", "arguments"), CASES, ids=case_id)
def test_padding_is_not_seen(layer_class, arguments, training, data_format):
    """Three tokens with 2 or 7 paddings: what they are alone, the moved statistics too."""
    tokens = random_input((4, 3, 8))
    axis = 1 if data_format == "channels_first" else 2
    layer = built(
        layer_class,
        {**arguments, "data_format": data_format},
        np.moveaxis(tokens, 2, axis),
        identity_scale=0.5,
    )
    start = layer.get_weights()

    def results(inputs, mask):
        layer.set_weights(start)
        given = {} if mask is None else {"mask": ops.convert_to_tensor(mask)}
        outputs = layer(np.moveaxis(inputs, 2, axis), training=training, **given)
        return np.moveaxis(to_numpy(outputs), axis, 2), weights_of(layer)

    expected, expected_weights = results(tokens, None)
    for before, after in [(0, 2), (0, 7), (4, 1)]:
        outputs, weights = results(*padded(tokens, before, after))
        assert_close(outputs[:, before : before + 3], expected, 1e-6)
        for name, value in expected_weights.items():
            assert_close(weights[name], value, 1e-6)


@pytest.mark.parametrize("layer_class", [one for one in LAYERS if one.has_maps])
def test_scores_of_real_steps(layer_class):
    tokens = random_input((4, 3, 8))
    layer = built(layer_class, {}, tokens)
    _, expected = layer(tokens, return_attention_scores=True)
    inputs, mask = padded(tokens, 0, 2)
    _, scores = layer(inputs, return_attention_scores=True, mask=ops.convert_to_tensor(mask))
    for score, other in zip(keras.tree.flatten(scores), keras.tree.flatten(expected)):
        assert_close(score[:, :3], to_numpy(other), 1e-6)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_a_mask_reaches_the_layers_behind(layer_class):
    """In Functional, Sequential and subclassed models, from an embedding to a recurrent layer."""
    layer = layer_class(start_as_identity=True)
    layers = [keras.layers.Embedding(9, 8, mask_zero=True), layer, keras.layers.GRU(4)]
    sequential = keras.Sequential([keras.Input((None,)), *layers])
    inputs = x = keras.Input((None,))
    for each in layers:
        x = each(x)
    tokens = np.array([[3, 5, 8], [2, 2, 0]])
    expected = to_numpy(layers[2](layers[0](tokens)))
    for model in (sequential, keras.Model(inputs, x)):
        for padding in (0, 2, 7):
            padded_tokens = np.pad(tokens, [(0, 0), (0, padding)])
            assert_close(model(padded_tokens), expected, 1e-6)
    for each in (layer, *([layer.spatial_attention] if layer_class is CBAM else [])):
        for weight in each.weights:
            if weight.name == "identity_scale":
                weight.assign(1.0)
    outputs = to_numpy(sequential(np.pad(tokens, [(0, 0), (0, 2)])))
    assert np.abs(outputs - expected).max() > 1e-3
    for padding in (0, 7):
        assert_close(sequential(np.pad(tokens, [(0, 0), (0, padding)])), outputs, 1e-6)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_masks_of_other_ranks_are_passed_on_only(layer_class):
    images = random_input((2, 4, 3, 8))
    layer = built(layer_class, {}, images)
    expected = to_numpy(layer(images))
    for shape in [(2,), (2, 4), (2, 4, 3)]:
        mask = ops.convert_to_tensor(np.zeros(shape, bool))
        outputs = layer(images, mask=mask)
        assert_close(outputs, expected, 0)
        assert keras.src.backend.get_keras_mask(outputs) is mask
    inputs = keras.Input((3, 5, 8))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras.layers.TimeDistributed(layer_class())(masked))
    x = random_input((2, 3, 5, 8))
    assert_close(model(x), to_numpy(model.layers[-1](x)), 1e-6)


@pytest.mark.parametrize("layer_class", LAYERS)
def test_an_example_without_real_steps_is_finite(layer_class):
    inputs = random_input((2, 5, 8))
    mask = ops.convert_to_tensor(np.array([[True] * 5, [False] * 5]))
    layer = built(layer_class, {}, inputs)
    for training in (False, True):
        assert np.isfinite(to_numpy(layer(inputs, training=training, mask=mask))).all()


def test_the_fused_path_is_not_taken_with_a_mask(monkeypatch):
    calls = []
    monkeypatch.setattr(fused_cbam, "takes", lambda inputs: calls.append(inputs.shape))
    inputs = random_input((2, 5, 8))
    layer = built(CBAM, {}, inputs)
    layer(inputs, mask=ops.ones((2, 5), "bool"))
    assert not calls
    layer(inputs)
    assert len(calls) == 1


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's")
@pytest.mark.parametrize("layer_class", LAYERS)
def test_fit_with_masks_under_xla(layer_class):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Embedding(9, 8, mask_zero=True),
            layer_class(),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    tokens = np.array([[3, 5, 8, 0, 0, 0], [2, 2, 0, 0, 0, 0]])
    results = []
    start = model.get_weights()
    for jit_compile in (False, True):
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        model.fit(tokens, np.ones((2, 8)), verbose=0)
        results.append(model.get_weights())
    for value, other in zip(*results):
        assert_close(other, value, 1e-5)
