import keras
import numpy as np
import pytest

from keras_cbam import (
    BAM,
    CBAM,
    ChannelAttention,
    ConvolutionControl,
    SpatialAttention,
    insert_attention,
)
from keras_cbam.visualization import AttentionScores, attention_maps
from keras_cbam.visualization.layer_maps import has_attention
from tests.checks import BACKEND, assert_close, randomize
from tests.visualization.models import KINDS, classifier, nested, random_images, subclassed


def scores_of(model, layer_name, inputs):
    """What the layer itself gives for the inputs that it gets in the model."""
    layer = model.get_layer(layer_name)
    features = keras.Model(model.input, layer.input)(inputs.astype("float32"))
    return layer(features, return_attention_scores=True)[1]


@pytest.mark.parametrize("kind", [*KINDS, "subclassed"])
def test_maps_are_the_attention_scores(kind):
    inner, images = classifier(), random_images(3)
    model = subclassed(inner) if kind == "subclassed" else KINDS[kind](inner)
    maps = attention_maps(model, images)
    assert list(maps) == ["gate_1", "gate_2"]
    for name, scores in maps.items():
        assert isinstance(scores, AttentionScores)
        assert scores.channel.dtype == scores.spatial.dtype == np.float32
        assert_close(tuple(scores), scores_of(inner, name, images), 1e-6)
    assert maps["gate_1"].channel.shape == (3, 1, 1, 8)
    assert maps["gate_1"].spatial.shape == (3, 10, 8, 1)


def test_the_model_is_as_before():
    model, images = classifier(), random_images()
    before = model.predict(images, verbose=0)
    attention_maps(model, images)
    assert all("call" not in vars(layer) for layer in model.layers)
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)


def test_batches_are_joined():
    model, images = classifier(), random_images(5)
    parts, whole = attention_maps(model, images, batch_size=2), attention_maps(model, images)
    for name in whole:
        assert_close(tuple(parts[name]), tuple(whole[name]), 1e-6)


@pytest.mark.parametrize(
    ("attention", "given"),
    [
        (ChannelAttention, (True, False)),
        (SpatialAttention, (False, True)),
        (BAM, (True, True)),
        (lambda name: CBAM(arrangement="channel", name=name), (True, False)),
        (lambda name: CBAM(arrangement="spatial", name=name), (False, True)),
        (lambda name: CBAM(arrangement="parallel", name=name), (True, True)),
    ],
)
def test_every_layer(attention, given):
    model = classifier(attention=attention)
    for name, scores in attention_maps(model, random_images()).items():
        assert tuple(gate is not None for gate in scores) == given
        expected = scores_of(model, name, random_images())
        if not isinstance(expected, tuple):
            expected = (expected, None) if given[0] else (None, expected)
        assert_close(tuple(scores), expected, 1e-6)


def test_the_control_has_no_maps():
    model = classifier(attention=ConvolutionControl)
    assert not has_attention(model)
    with pytest.raises(ValueError, match="no attention layer"):
        attention_maps(model, random_images())
    gates = iter([CBAM, ConvolutionControl])
    model = classifier(attention=lambda name: next(gates)(name=name))
    assert has_attention(model)
    assert list(attention_maps(model, random_images())) == ["gate_1"]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    for scores in attention_maps(model, random_images()).values():
        assert scores.spatial.dtype == np.float32
        assert np.isfinite(scores.channel).all()


def test_reloaded_and_inserted(tmp_path):
    model = insert_attention(classifier(attention=None), where=["first", "second"])
    randomize(model)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    ours, theirs = (attention_maps(one, random_images()) for one in (model, reloaded))
    assert list(ours) == list(theirs) == ["first_cbam", "second_cbam"]
    for name in ours:
        assert_close(tuple(ours[name]), tuple(theirs[name]), 1e-6)


def test_layers_that_are_called_twice_or_named_alike():
    inner = classifier()
    inputs = [keras.Input(inner.input_shape[1:], name=name) for name in ("left", "right")]
    model = keras.Model(inputs, keras.layers.Add()([inner(one) for one in inputs]))
    left, right = random_images(2), random_images(2, seed=1)
    maps = attention_maps(model, [left, right])
    assert set(maps) == {"gate_1", "gate_2", "gate_1_1", "gate_2_1"}
    assert_close(tuple(maps["gate_1"]), scores_of(inner, "gate_1", left), 1e-6)
    assert_close(tuple(maps["gate_1_1"]), scores_of(inner, "gate_1", right), 1e-6)
    by_name = attention_maps(model, {"left": left, "right": right})
    assert_close(tuple(by_name["gate_2_1"]), tuple(maps["gate_2_1"]), 1e-6)

    networks = [classifier(seed=seed) for seed in (1, 2)]
    for network, name in zip(networks, ("one", "other")):
        network.name = name
    shared = keras.Input(inner.input_shape[1:])
    both = keras.Model(shared, keras.layers.Add()([network(shared) for network in networks]))
    maps = attention_maps(both, left)
    assert set(maps) == {"one/gate_1", "one/gate_2", "other/gate_1", "other/gate_2"}
    assert_close(tuple(maps["other/gate_1"]), scores_of(networks[1], "gate_1", left), 1e-6)


def test_further_calls_do_not_take_the_name_of_another_layer():
    inputs = keras.Input((8, 8, 4))
    first, second = CBAM(name="cbam"), CBAM(name="cbam_1")
    model = keras.Model(inputs, second(first(first(inputs))))
    maps = attention_maps(model, np.ones((2, 8, 8, 4)))
    assert list(maps) == ["cbam", "cbam_2", "cbam_1"]
    assert {scores.spatial.shape for scores in maps.values()} == {(2, 8, 8, 1)}


def test_layers_that_two_paths_lead_to():
    inner = classifier()
    features = keras.Model(inner.input, inner.get_layer("gate_1").output, name="features")

    class Both(keras.Model):
        def __init__(self):
            super().__init__()
            self.features, self.backbone = features, inner

        def call(self, inputs):
            return self.backbone(inputs)

    assert list(attention_maps(Both(), random_images())) == ["gate_1", "gate_2"]


def test_layers_of_the_same_name_in_a_subclassed_model():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = CBAM(name="gate"), CBAM(name="gate")

        def call(self, inputs):
            return self.other(self.one(inputs))

    maps = attention_maps(Twins(), np.ones((2, 8, 8, 4)))
    assert list(maps) == ["gate", "gate_1"]


def test_layers_that_are_made_when_the_model_is_built():
    class Late(keras.Model):
        def build(self, input_shape):
            self.gate = CBAM(name="gate")
            self.gate.build(input_shape)

        def call(self, inputs):
            return self.gate(inputs)

    assert list(attention_maps(Late(), np.ones((2, 8, 8, 4)))) == ["gate"]


@pytest.mark.parametrize("layers", [".*2", ["gate_2"], lambda layer: layer.name == "gate_2"])
def test_chosen_layers(layers):
    assert list(attention_maps(classifier(), random_images(), layers)) == ["gate_2"]
    path = "functional" if callable(layers) else None
    assert path is None or list(attention_maps(nested(classifier()), random_images(), layers))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "gate_3",
            r"None of the 2 layers.*Did you mean 'gate_2' or 'gate_1'.*Received: layers='gate_3'",
        ),
        (["gate_3"], r"`layers` could choose matches 'gate_3'.*'gate_2' or 'gate_1'"),
        ("(", r"`layers` is not a valid regular expression"),
        (3, r"`layers` must be a regular expression.*Received: layers=3"),
    ],
)
def test_layers_that_do_not_exist(layers, message):
    with pytest.raises(ValueError, match=message):
        attention_maps(classifier(), random_images(), layers)


def test_images_that_nearly_fit():
    model, images = classifier(), random_images()
    expected = attention_maps(model, images)
    for given in (images.astype("float64"), images.tolist(), keras.ops.convert_to_tensor(images)):
        assert_close(tuple(attention_maps(model, given)["gate_2"]), tuple(expected["gate_2"]), 1e-6)
    grey = images[..., :1]
    assert_close(
        tuple(attention_maps(model, grey)["gate_1"]),
        tuple(attention_maps(model, np.repeat(grey, 3, -1))["gate_1"]),
        1e-6,
    )
    assert attention_maps(model, random_images(2, (40, 31)))["gate_1"].spatial.shape == (
        2,
        10,
        8,
        1,
    )
    anywhere = classifier(size=(None, None))
    assert attention_maps(anywhere, images)["gate_1"].spatial.shape == (2, 10, 8, 1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (random_images()[0], r"batch of shape \(batch, 12, 10, 3\). Received: images of shape"),
        (random_images(channels=4), r"Images must have 3 channels.*\(2, 12, 10, 4\)"),
        (np.zeros((0, 12, 10, 3)), r"There is no image"),
        (np.full((1, 12, 10, 3), np.nan), r"Images must be finite"),
        (np.full((1, 12, 10, 3), "cat"), r"Images must be numbers"),
        ([np.zeros((12, 10, 3)), np.zeros((9, 9, 3))], r"must have one size.*\(9, 9, 3\)"),
    ],
)
def test_images_that_do_not_fit(images, message):
    with pytest.raises(ValueError, match=message):
        attention_maps(classifier(), images)


def test_inputs_that_do_not_fit():
    inputs = [keras.Input((8, 8, 3), name=name) for name in ("left", "right")]
    x = CBAM()(keras.layers.Conv2D(4, 3)(keras.layers.Add()(inputs)))
    model = keras.Model(inputs, x, name="pair")
    images = random_images(2, (8, 8))
    for wrong, message in (
        (images, r"'pair' has 2 inputs.*Received: an array of shape \(2, 8, 8, 3\)"),
        ([images], r"'pair' has 2 inputs"),
        ([images, images[:1]], r"same number of examples"),
        ({"left": images, "middle": images}, r"\['left', 'right'\]. Received.*'middle'"),
    ):
        with pytest.raises(ValueError, match=message):
            attention_maps(model, wrong)


def test_a_model_without_attention():
    with pytest.raises(ValueError, match=r"no attention layer of keras_cbam.*insert_attention"):
        attention_maps(classifier(attention=None), random_images())


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_batch_size(size):
    with pytest.raises(ValueError, match=f"Received: batch_size={size}"):
        attention_maps(classifier(), random_images(), batch_size=size)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow's convolutions on the CPU")
def test_channels_first():
    inputs = keras.Input((3, 12, 10))
    x = keras.layers.Conv2D(4, 3, data_format="channels_first")(inputs)
    model = keras.Model(inputs, CBAM(data_format="channels_first", name="gate")(x))
    grey = np.moveaxis(random_images(2, (24, 20), channels=1), -1, 1)
    maps = attention_maps(model, grey)["gate"]
    assert maps.channel.shape == (2, 4, 1, 1)
    assert maps.spatial.shape == (2, 1, 10, 8)
