"""What a copy keeps beside the outputs of the layers: adapted state, flags, quantized weights."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, insert_attention, remove_attention
from keras_cbam._compat import inner_layers
from tests.checks import BACKEND
from tests.insertion.models import IMAGES, call, conv, residual_model

WORDS = np.array(["a", "b", "c", "b", "c", "c", "d", "e"])


def text_model(layer):
    is_of_numbers = isinstance(layer, keras.layers.IntegerLookup)
    inputs = keras.Input((1,), dtype="int64" if is_of_numbers else "string")
    x = keras.layers.Embedding(9, 4)(layer(inputs))
    return keras.Model(inputs, conv_1d("a")(x))


def conv_1d(name):
    return keras.layers.Conv1D(4, 1, name=name)


def adapted(layer, data):
    layer.adapt(data)
    return layer


def predicted(model, data):
    import tensorflow as tf

    return model(tf.constant(data[:, None])).numpy()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strings and their tables are TensorFlow's")
@pytest.mark.parametrize("layer_class", [keras.layers.StringLookup, keras.layers.IntegerLookup])
def test_tables_that_were_not_adapted_yet(layer_class):
    copy = insert_attention(text_model(layer_class()), where="a")
    assert copy.get_layer("a_cbam").trainable


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strings and their tables are TensorFlow's")
@pytest.mark.parametrize(
    ("make", "data"),
    [
        (keras.layers.StringLookup, WORDS),
        (lambda: keras.layers.StringLookup(num_oov_indices=2, mask_token="a"), WORDS),
        (keras.layers.IntegerLookup, np.arange(10, 15)),
        (lambda: keras.layers.TextVectorization(output_sequence_length=1), WORDS),
    ],
)
def test_adapted_tables(make, data):
    model = text_model(adapted(make(), data))
    copy = insert_attention(model, where="a")
    expected = predicted(model, data)
    assert len(np.unique(expected[..., 0])) > 3
    for network in (copy, remove_attention(copy)):
        np.testing.assert_array_equal(predicted(network, data), expected)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strings and their tables are TensorFlow's")
def test_adapted_weights_of_words():
    layer = adapted(keras.layers.TextVectorization(output_mode="tf_idf"), WORDS)
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, conv_1d("a")(keras.layers.Reshape((-1, 1))(layer(inputs))))
    copy = insert_attention(model, where="a")
    np.testing.assert_array_equal(predicted(copy, WORDS), predicted(model, WORDS))


def test_adapted_bins():
    layer = adapted(keras.layers.Discretization(num_bins=5, name="bins"), 10 * IMAGES)
    inputs = keras.Input((8, 8, 4))
    x = ops.cast(layer(inputs), "float32")
    model = keras.Model(inputs, conv("a")(x))
    copy = insert_attention(model, where="a")
    np.testing.assert_array_equal(call(copy), call(model))
    assert copy.get_layer("bins").bin_boundaries == layer.bin_boundaries


@keras.saving.register_keras_serializable(package="tests")
class Remembering(keras.layers.Layer):
    """Keeps an array that is no variable, and a text in a file; may have such a layer inside."""

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        self.array = np.zeros(4, "float32")
        self.text = ""

    def build(self, input_shape):
        self.offset = self.add_weight(shape=(4,), initializer="ones", name="offset")
        if self.inner is not None and not self.inner.built:
            self.inner.build(input_shape)

    def call(self, inputs):
        x = inputs * ops.convert_to_tensor(self.array) + self.offset * len(self.text)
        return x if self.inner is None else self.inner(x)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["array"] = self.array

    def load_own_variables(self, store):
        self.array = store["array"]
        super().load_own_variables({key: store[key] for key in store if key != "array"})

    def save_assets(self, dir_path):
        with open(f"{dir_path}/text.txt", "w") as file:
            file.write(self.text)

    def load_assets(self, dir_path):
        with open(f"{dir_path}/text.txt") as file:
            self.text = file.read()

    def get_config(self):
        inner = self.inner and keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        inner = config.pop("inner")
        return cls(inner and keras.saving.deserialize_keras_object(inner), **config)


def test_what_layers_save_themselves_is_copied():
    layer = Remembering(Remembering(), name="outer")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layer(inputs))
    layer.array, layer.text = np.arange(1, 5, dtype="float32"), "four"
    layer.inner.array, layer.inner.text = np.full(4, 3.0, "float32"), "inside"
    layer.inner.offset.assign(np.full(4, 2.0))
    copy = insert_attention(model, where="outer")
    np.testing.assert_array_equal(call(copy), call(model))
    array = copy.get_layer("outer").inner.array
    array[:] = 0
    np.testing.assert_array_equal(layer.inner.array, np.full(4, 3.0))


def test_adapters_are_copied_as_they_are():
    inputs = keras.Input((8, 4))
    dense = keras.layers.Dense(4, name="a")
    model = keras.Model(inputs, dense(inputs))
    dense.enable_lora(2)
    for variable in dense.trainable_variables:
        variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    copy = insert_attention(model, where="a")
    data = np.ones((1, 8, 4), "float32")
    np.testing.assert_array_equal(call(copy, data), call(model, data))
    for ours, theirs in zip(copy.get_layer("a").weights, dense.weights, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), err_msg=ours.path
        )


class Forgetful(keras.layers.Layer):
    """Its config lacks an argument on which the number of its layers depends."""

    def __init__(self, count=1, **kwargs):
        super().__init__(**kwargs)
        self.parts = [keras.layers.Dense(4) for _ in range(count)]

    def call(self, inputs):
        return sum(part(inputs) for part in self.parts)

    def get_config(self):
        return super().get_config()


def test_a_layer_whose_config_rebuilds_another_one_is_refused():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, Forgetful(2, name="forgetful")(inputs))
    with pytest.raises(ValueError, match=r"same layers and variables.*'forgetful' of class Forg"):
        insert_attention(model, where="forgetful")


def classifier(base):
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.GlobalAveragePooling2D()(base(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


@pytest.mark.parametrize("frozen_by", ["model", "layers"])
def test_new_attention_in_a_frozen_model_is_trainable(frozen_by, tmp_path):
    base = residual_model()
    if frozen_by == "model":
        base.trainable = False
    for layer in base.layers:
        layer.trainable = False
    alone = insert_attention(base)
    assert len(alone.trainable_variables) == 7
    model = insert_attention(classifier(base))
    model.save(tmp_path / "model.keras")
    for copy in (model, keras.models.load_model(tmp_path / "model.keras")):
        inner = copy.get_layer("residual")
        assert len(copy.trainable_variables) == 7 + 2
        assert [layer.name for layer in inner.layers if layer.trainable_weights] == ["b_cbam"]
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.ones((2, 2)), epochs=2, verbose=0)
    scale = model.get_layer("residual").get_layer("b_cbam").channel_attention.identity_scale
    assert np.all(ops.convert_to_numpy(scale) != 0)
    assert not insert_attention(base, CBAM(trainable=False)).trainable_variables


def flags(layer):
    """The flags of a layer, of the layers in it and of their variables, in order."""
    inner = [(each.name, each.trainable) for each in inner_layers(layer)]
    return inner + [(v.name, v.trainable) for v in layer.variables]


@pytest.mark.parametrize("change", [lambda m: insert_attention(m, "se"), remove_attention])
def test_flags_of_inner_layers_and_of_variables(change):
    cells = [keras.layers.LSTMCell(3, name="first"), keras.layers.LSTMCell(4, name="second")]
    stacked = keras.layers.RNN(cells, return_sequences=True, name="rnn")
    inputs = keras.Input((8, 4))
    x = keras.layers.BatchNormalization(name="norm")(conv_1d("a")(CBAM(name="gate")(inputs)))
    inner = keras.Model(inputs, inputs + x, name="inner")
    inputs = keras.Input((8, 4))
    model = keras.Model(inputs, stacked(inner(inputs)), name="outer")
    stacked.cell.cells[0].trainable = False
    stacked.cell.cells[1].bias.trainable = False
    inner.trainable = False
    inner.get_layer("norm").trainable = True
    inner.get_layer("norm").beta.trainable = False
    inner.get_layer("a").bias.trainable = True
    copy = change(model)
    assert flags(copy.get_layer("rnn")) == flags(stacked)
    for name in ("norm", "a"):
        assert flags(copy.get_layer("inner").get_layer(name)) == flags(inner.get_layer(name))
    assert copy.get_layer("inner").trainable == (change is not remove_attention)


def test_a_model_inside_keeps_its_flag_beside_a_frozen_one():
    shared = residual_model()
    inputs = keras.Input((8, 8, 4))
    first = keras.Model(inputs, shared(inputs), name="first")
    inputs = keras.Input((8, 8, 4))
    second = keras.Model(inputs, shared(inputs), name="second")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, second(first(inputs)))
    second.trainable = False
    shared.trainable = True
    copy = insert_attention(model, None)
    names = ("first", "second")
    assert [copy.get_layer(name).trainable for name in names] == [True, False]
    assert copy.get_layer("first").get_layer("residual").trainable


# Keras tells so of the input layer of every Functional model.
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_attention_after_a_quantized_layer(mode, policy):
    if BACKEND == "torch" and mode != "int8":
        pytest.skip("PyTorch's kernels for these are not on every CPU")
    inputs = keras.Input((8, 4))
    model = keras.Model(inputs, keras.layers.Dense(4, name="a", dtype=policy)(inputs))
    model.quantize(mode)
    copy = insert_attention(model, where="a")
    assert copy.get_layer("a_cbam").dtype_policy.name == policy
    assert copy.get_layer("a").dtype_policy == model.get_layer("a").dtype_policy
    data = np.random.default_rng(0).normal(size=(2, 8, 4)).astype("float32")
    ours, theirs = (ops.cast(network(data), "float32") for network in (copy, model))
    np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
