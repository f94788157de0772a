import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, insert_attention, remove_attention
from tests.insertion.models import IMAGES, call, conv, nested_model, randomized, residual_model


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attention", ["cbam", "se", "spatial", "control"])
def test_removal_undoes_insertion(attention, training):
    model = residual_model()
    with_attention = insert_attention(model, attention, start_as_identity=False)
    plain = remove_attention(with_attention)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    assert plain.name == model.name
    np.testing.assert_array_equal(call(plain, training=training), call(model, training=training))


def test_source_is_untouched_and_shares_no_variable():
    with_attention = insert_attention(residual_model(), start_as_identity=False)
    before = call(with_attention)
    plain = remove_attention(with_attention)
    for variable in plain.variables:
        variable.assign(np.full(variable.shape, 3))
    np.testing.assert_array_equal(call(with_attention), before)
    assert not {id(v) for v in plain.variables} & {id(v) for v in with_attention.variables}


def test_nested_and_shared_models():
    model = nested_model()
    model.get_layer("sequential").get_layer("c").trainable = False
    plain = remove_attention(insert_attention(model))
    assert plain.get_layer("sequential").get_layer("residual") is plain.get_layer("residual")
    assert not plain.get_layer("sequential").get_layer("c").trainable
    for ours, theirs in zip(plain(IMAGES), model(IMAGES)):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_sequential_model():
    model = randomized(keras.Sequential([keras.Input((8, 8, 4)), conv("a"), conv("b")]))
    plain = remove_attention(insert_attention(model, where=["a", "b"]))
    assert [layer.name for layer in plain.layers] == ["a", "b"]
    np.testing.assert_array_equal(call(plain), call(model))


def test_attention_of_the_user_and_at_the_outputs():
    inputs = keras.Input((8, 8, 4))
    x = CBAM(name="first")(inputs)
    x = CBAM(name="last")(conv("a")(x))
    model = keras.Model(inputs, x)
    plain = remove_attention(model)
    np.testing.assert_array_equal(call(plain), ops.convert_to_numpy(model.get_layer("a")(IMAGES)))
    one = remove_attention(model, where=["first"])
    assert [layer.name for layer in one.layers[1:]] == ["a", "last"]


def test_flags_and_trained_weights_are_kept():
    with_attention = insert_attention(residual_model())
    with_attention.get_layer("a").trainable = False
    with_attention.compile("sgd", "mse")
    with_attention.fit(IMAGES, IMAGES, verbose=0)
    plain = remove_attention(with_attention)
    assert not plain.compiled
    assert not plain.get_layer("a").trainable
    for name in ("a", "b"):
        for ours, theirs in zip(
            plain.get_layer(name).get_weights(), with_attention.get_layer(name).get_weights()
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_layers_of_a_foreign_class_by_where():
    with_attention = insert_attention(
        residual_model(), keras.layers.LayerNormalization(), where=["b"], start_as_identity=False
    )
    assert with_attention.get_layer("b_layer_normalization")
    with pytest.raises(ValueError, match="No attention layer found in model 'residual'"):
        remove_attention(with_attention)
    for where in (".*_normalization", ["b_layer_normalization"]):
        assert remove_attention(with_attention, where).get_layer("b") is not None
        names = [layer.name for layer in remove_attention(with_attention, where).layers]
        assert names == ["images", "a", "b", "add"]
    by_class = remove_attention(
        with_attention, lambda layer: isinstance(layer, keras.layers.LayerNormalization)
    )
    assert len(by_class.layers) == 4


def test_reloaded_model(tmp_path):
    model = residual_model()
    insert_attention(model).save(tmp_path / "model.keras")
    plain = remove_attention(keras.models.load_model(tmp_path / "model.keras"))
    np.testing.assert_allclose(call(plain), call(model), atol=1e-6)


def test_what_cannot_be_removed():
    model = residual_model()
    with pytest.raises(ValueError, match="No attention layer found"):
        remove_attention(model)
    with pytest.raises(ValueError, match="could choose matches 'nothing'"):
        remove_attention(model, where=["nothing"])
    with pytest.raises(ValueError, match=r"Functional.*subclassed"):
        remove_attention(CBAM())
    with pytest.raises(ValueError, match="could choose matches 'add'"):
        remove_attention(model, where=["add"])
    inputs = keras.Input((8, 8, 4))
    outputs, scores = CBAM(name="seen")(inputs, return_attention_scores=True)
    with pytest.raises(ValueError, match=r"scores are used.*Received: layer 'seen'"):
        remove_attention(keras.Model(inputs, [outputs, scores[0]]))


def test_attention_that_is_called_by_keyword():
    inputs = keras.Input((8, 8, 4))
    x = conv("a")(inputs)
    model = keras.Model(inputs, conv("b")(inputs=CBAM(name="gate")(training=False, inputs=x)))
    copy = insert_attention(model, where="a")
    np.testing.assert_array_equal(call(copy), call(model))
    plain = remove_attention(copy)
    assert [layer.name for layer in plain.layers[1:]] == ["a", "b"]
    expected = model.get_layer("b")(model.get_layer("a")(IMAGES))
    np.testing.assert_array_equal(call(plain), ops.convert_to_numpy(expected))
