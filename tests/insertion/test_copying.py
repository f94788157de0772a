"""Masks, classes of models and wrappers in copies."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import find_sites, insert_attention, remove_attention
from tests.checks import BACKEND
from tests.insertion.models import IMAGES, call, conv, residual_model

TOKENS = np.array([[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 9]])


def recurrent_layers(is_bidirectional, mask_zero=True):
    def lstm(name, **arguments):
        layer = keras.layers.LSTM(4, name=name, **arguments)
        return keras.layers.Bidirectional(layer, name=name) if is_bidirectional else layer

    first = lstm("first", return_sequences=True)
    embedding = keras.layers.Embedding(10, 4, mask_zero=mask_zero, name="embedding")
    return [embedding, first, lstm("second")]


def sequential(layers, **arguments):
    return keras.Sequential([keras.Input((5,), dtype="int32"), *layers], **arguments)


def functional(layers):
    inputs = x = keras.Input((5,), dtype="int32")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def nested(layers):
    inputs = keras.Input((5,), dtype="int32")
    return keras.Model(inputs, sequential(layers, name="inner")(inputs))


@pytest.mark.parametrize("build", [sequential, functional, nested])
@pytest.mark.parametrize("is_bidirectional", [False, True])
def test_masks_pass_the_attention(build, is_bidirectional):
    keras.utils.set_random_seed(0)
    model = build(recurrent_layers(is_bidirectional))
    copy = insert_attention(model, where=["embedding", "first"])
    expected = call(model, TOKENS)
    np.testing.assert_array_equal(call(copy, TOKENS), expected)
    np.testing.assert_array_equal(call(remove_attention(copy), TOKENS), expected)
    without_mask = build(recurrent_layers(is_bidirectional, mask_zero=False))
    without_mask.set_weights(model.get_weights())
    assert np.max(np.abs(call(without_mask, TOKENS) - expected)) > 1e-3


def test_wrapped_backbone_is_searched(tmp_path):
    backbone = residual_model()
    backbone.get_layer("a").trainable = False
    wrapped = keras.layers.TimeDistributed(backbone, name="frames")
    inputs = keras.Input((3, 8, 8, 4))
    x = keras.layers.GlobalAveragePooling3D()(wrapped(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    frames = np.stack([IMAGES] * 3, axis=1)
    assert find_sites(model) == ["frames/b"]
    copy = insert_attention(model)
    inner = copy.get_layer("frames").layer
    assert [layer.name for layer in inner.layers] == ["images", "a", "b", "b_cbam", "add"]
    assert not inner.get_layer("a").trainable
    assert inner.get_layer("a").kernel is not backbone.get_layer("a").kernel
    copy.save(tmp_path / "model.keras")
    for network in (
        copy,
        remove_attention(copy),
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        np.testing.assert_array_equal(call(network, frames), call(model, frames))
    wrapped.trainable = False
    frozen = insert_attention(model)
    assert len(frozen.trainable_variables) == 7 + 2


class Plain(keras.Model):
    def train_step(self, *arguments):
        logs = {"own": 1.0}
        return (logs, arguments[0]) if BACKEND == "jax" else logs


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.Model):
    """A Functional model with an argument, weights, and a layer that is not in its graph."""

    def __init__(self, inputs, outputs, factor, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.factor = factor
        self.own = self.add_weight(shape=(2,), name="own")
        self.teacher = keras.layers.Dense(2, name="teacher")

    def train_step(self, data):
        return {"own": ops.mean(self.teacher(data[0][:, 0, 0])) + self.factor}

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class FromConfig(Scaled):
    def get_config(self):
        return {**super().get_config(), "factor": str(self.factor)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "factor": float(config["factor"])})


class Stack(keras.Sequential):
    def __init__(self, layers=None, factor=1, **kwargs):
        super().__init__(layers, **kwargs)
        self.factor = factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def graph():
    inputs = keras.Input((8, 8, 4))
    return inputs, inputs + conv("a")(inputs)


def test_compiled_subclass_of_functional_keeps_its_class():
    model = Plain(*graph())
    model.compile("sgd", "mse")
    copy = insert_attention(model)
    assert type(copy) is Plain
    assert model.compiled
    assert not copy.compiled
    copy.compile("sgd", "mse")
    assert copy.fit(IMAGES, IMAGES, verbose=0).history["own"] == [1.0]


@pytest.mark.parametrize("model_class", [Scaled, FromConfig])
@pytest.mark.parametrize("is_nested", [False, True])
def test_subclass_keeps_what_it_has_beside_the_graph(model_class, is_nested):
    model = model_class(*graph(), factor=3.0, name="mine")
    model.teacher.build((None, 4))
    model.own.assign([5.0, 6.0])
    model.teacher.trainable = False
    whole = keras.Sequential([keras.Input((8, 8, 4)), model]) if is_nested else model
    plain = remove_attention(insert_attention(whole))
    for whole_copy in (insert_attention(whole), plain):
        copy = whole_copy.layers[0] if is_nested else whole_copy
        assert type(copy) is model_class
        assert (copy.name, copy.factor) == ("mine", 3.0)
        np.testing.assert_array_equal(ops.convert_to_numpy(copy.own), [5, 6])
        for ours, theirs in zip(
            copy.teacher.get_weights(), model.teacher.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        assert copy.teacher.kernel is not model.teacher.kernel
        assert not copy.teacher.trainable
        np.testing.assert_array_equal(call(copy), call(model))


def test_subclass_of_sequential_keeps_its_class():
    model = Stack([keras.Input((8, 8, 4)), conv("a"), conv("b")], factor=3, name="mine")
    copy = insert_attention(model, where=["a"])
    assert type(copy) is Stack
    assert (copy.name, copy.factor) == ("mine", 3)
    np.testing.assert_array_equal(call(copy), call(model))


class HidesItsArgument(keras.Model):
    def __init__(self, *args, **kwargs):
        self_gamma = kwargs.pop("gamma", 1.0)
        super().__init__(*args, **kwargs)
        self.gamma = self_gamma


def test_subclass_keeps_plain_attributes():
    model = HidesItsArgument(*graph(), gamma=4.0)
    model.betas = [1, 2]
    model.compile("sgd", "mse")
    copy = insert_attention(model)
    assert (copy.gamma, copy.betas, copy.compiled) == (4.0, [1, 2], False)


class MakesItsGraph(keras.Model):
    def __init__(self, filters=4, **kwargs):
        self.filters = filters
        super().__init__(*graph(), **kwargs)

    def get_config(self):
        return {"filters": self.filters}


class Unsaid(Scaled):
    def get_config(self):
        return {}


class AddsToIt(keras.Model):
    def __init__(self, inputs, outputs, **kwargs):
        super().__init__(inputs, conv("more")(outputs), **kwargs)

    def get_config(self):
        return {}


@pytest.mark.parametrize(
    "make", [MakesItsGraph, lambda: Unsaid(*graph(), factor=2), lambda: AddsToIt(*graph())]
)
def test_class_that_its_config_does_not_rebuild_is_refused(make):
    model = make()
    message = (
        rf"(?s)constructor takes `inputs`.*Received: model '.*' of class {type(model).__name__}"
    )
    with pytest.raises(ValueError, match=message):
        insert_attention(model)
    plain = insert_attention(keras.Model(model.input, model.output))
    np.testing.assert_array_equal(call(plain), call(model))


def test_weight_that_was_added_from_outside_is_not_lost():
    model = Plain(*graph())
    model.own = model.add_weight(shape=(2,), name="own")
    with pytest.raises(ValueError, match="same layers and variables"):
        insert_attention(model)


def test_sparse_and_optional_inputs_stay_so():
    inputs = keras.Input((8, 8, 4)), keras.Input((2,), name="extra", optional=True)
    model = keras.Model(inputs, conv("a")(inputs[0]))
    copy = insert_attention(model, where="a")
    assert copy.get_layer("extra").optional
    np.testing.assert_array_equal(call(copy, [IMAGES, None]), call(model, [IMAGES, None]))
