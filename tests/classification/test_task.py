import keras
import numpy as np
import pytest

from keras_cbam import insert_attention
from keras_cbam.classification.task import fit_classifier
from keras_cbam.data.labelled_images import DataSet


@pytest.fixture(scope="module")
def data_set():
    """Bright against dark pictures."""
    generator = np.random.default_rng(0)
    y = (np.arange(24) % 2).astype("int32")
    x = (generator.integers(0, 60, (24, 16, 16, 3)) + 180 * y[:, None, None, None]).astype("uint8")
    return DataSet("brightness", x[:16], y[:16], x[16:], y[16:], ["dark", "bright"], [])


def backbone():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    branch = keras.layers.Conv2D(4, 3, padding="same", name="branch")(x)
    branch = keras.layers.BatchNormalization(name="branch_bn")(branch)
    return keras.Model(inputs, keras.layers.Add(name="add")([x, branch]), name="backbone")


def classifier(attention="cbam"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = insert_attention(backbone(), attention)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(2, activation="softmax", dtype="float32", name="head")(x)
    return keras.Model(inputs, outputs)


def fit(model, data_set, **arguments):
    arguments = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "verbose": 0, **arguments}
    return fit_classifier(model, data_set, **arguments)


def changed(model, before):
    """The layers whose weights are no longer those in `before`."""
    names = set()
    for layer in leaves(model):
        for ours, theirs in zip(layer.get_weights(), before[layer.name], strict=True):
            if not np.array_equal(ours, theirs):
                names.add(layer.name)
    return names


def leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in leaves(model)}


def test_first_phase_trains_attention_and_head_only(data_set):
    model = classifier({"class_name": "cbam", "config": {"use_batch_norm": True}})
    before = weights_of(model)
    history = fit(model, data_set, freeze_epochs=2)
    assert changed(model, before) == {"branch_bn_cbam", "head"}
    assert len(history["loss"]) == len(history["val_accuracy"]) == 2
    # The gate's own batch normalization is new, and gathers statistics.
    gate = model.get_layer("backbone").get_layer("branch_bn_cbam").spatial_attention
    assert np.all(np.array(gate.batch_norm.moving_mean) != 0)


def test_second_phase_trains_everything_but_batch_normalization(data_set):
    model = classifier()
    before = weights_of(model)
    history = fit(model, data_set, epochs=3, freeze_epochs=1)
    assert len(history["loss"]) == 3
    assert changed(model, before) == {"stem", "branch", "branch_bn_cbam", "head"}


def test_each_phase_has_its_optimizer_and_rate(data_set, monkeypatch):
    made = []
    for name in ("SGD", "AdamW"):
        optimizer = getattr(keras.optimizers, name)

        def record(schedule, optimizer=optimizer, **arguments):
            made.append((optimizer.__name__, schedule.warmup_target))
            return optimizer(schedule, **arguments)

        monkeypatch.setattr(keras.optimizers, name, record)
    fit(classifier(), data_set, freeze_epochs=1, learning_rate=None)
    fit(classifier(), data_set, epochs=1, freeze_epochs=1, learning_rate=0.1)
    fit(classifier(), data_set, epochs=1, learning_rate=None)
    assert made == [
        ("AdamW", 0.003),
        ("AdamW", pytest.approx(0.0003)),
        ("AdamW", 0.1),
        ("SGD", 0.15),
    ]


def test_without_freezing_everything_trains(data_set):
    model = classifier()
    before = weights_of(model)
    fit(model, data_set, epochs=1)
    assert changed(model, before) == {layer.name for layer in leaves(model) if layer.weights}
    assert "stem_bn" in changed(model, before)


def test_flags_are_as_they_were(data_set):
    model = classifier()
    model.get_layer("backbone").get_layer("stem").trainable = False
    before = weights_of(model)
    flags = [layer.trainable for layer in leaves(model)]
    fit(model, data_set, freeze_epochs=1)
    assert [layer.trainable for layer in leaves(model)] == flags
    assert "stem" not in changed(model, before)


def test_flags_are_restored_after_an_error(data_set):
    model = classifier()
    broken = DataSet("broken", data_set.train_images, data_set.train_labels, None, None, [], [])
    with pytest.raises((ValueError, TypeError, AttributeError)):
        fit(model, broken, freeze_epochs=1)
    assert all(layer.trainable for layer in leaves(model))


@pytest.mark.parametrize("freeze_epochs", [0, 1])
def test_weight_decay_is_for_the_kernels_of_the_network(data_set, freeze_epochs):
    trained = []
    for weight_decay in (0.0, 10.0):
        model = classifier()
        arguments = {"learning_rate": 1e-3, "weight_decay": weight_decay}
        # One step, after which all weights but the decayed ones are the same.
        fit(model, data_set, epochs=1, batch_size=16, freeze_epochs=freeze_epochs, **arguments)
        trained.append(weights_of(model))
    decayed = {
        f"{name}/{index}"
        for name, weights in trained[0].items()
        for index, weight in enumerate(weights)
        if not np.array_equal(weight, trained[1][name][index])
    }
    # While the backbone is frozen, so are its kernels.
    assert decayed == ({"head/0"} if freeze_epochs else {"stem/0", "branch/0", "head/0"})


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has no XLA here")
def test_freezing_under_xla_and_mixed_precision(data_set, dtype_policy):
    dtype_policy("mixed_bfloat16")
    model = classifier()
    history = fit(model, data_set, freeze_epochs=1, xla=True, weight_decay=1e-4)
    assert np.isfinite(history["loss"]).all()


@keras.saving.register_keras_serializable(package="tests")
class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(3, 3, padding="same", name="inner_convolution")
        self.normalization = keras.layers.BatchNormalization(name="inner_normalization")

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.normalization.build(input_shape)

    def call(self, inputs, training=None):
        return self.normalization(self.convolution(inputs), training=training)


def test_flags_inside_custom_layers(data_set):
    inputs = keras.Input((16, 16, 3))
    block = Block(name="block")
    backbone = keras.Model(inputs, inputs + block(inputs), name="backbone")
    block.convolution.trainable = False
    x = keras.layers.GlobalAveragePooling2D()(backbone(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    before = block.get_weights()
    fit(model, data_set, freeze_epochs=1)
    for ours, theirs in zip(block.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not block.convolution.trainable
    assert block.trainable
    assert block.normalization.trainable


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs": 0},
        {"epochs": 1, "freeze_epochs": 3},
        {"freeze_epochs": -1},
        {"freeze_epochs": 1.5},
        {"learning_rate": True},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
        {"batch_size": 0},
    ],
)
def test_bad_arguments(data_set, arguments):
    name = list(arguments)[-1]
    with pytest.raises(ValueError, match=f"Received: {name}="):
        fit(classifier(), data_set, **arguments)


def test_a_model_without_a_backbone_cannot_be_frozen(data_set):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    with pytest.raises(ValueError, match=r"`freeze_epochs` needs a model with a backbone"):
        fit(model, data_set, freeze_epochs=1)
