import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, ChannelAttention, insert_attention
from tests.insertion.models import IMAGES, call, conv, nested_model, randomized, residual_model


def attention_names(model):
    return [layer.name for layer in model.layers if "cbam" in layer.name]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attention", ["cbam", "se", "channel", "spatial"])
def test_identity_start_changes_nothing(attention, training):
    model = residual_model()
    copy = insert_attention(model, attention)
    assert copy.count_params() > model.count_params()
    np.testing.assert_array_equal(call(copy, training=training), call(model, training=training))


def test_without_identity_start_the_gates_act():
    model = residual_model()
    copy = insert_attention(model, start_as_identity=False)
    with_attention = copy.get_layer("b_cbam")
    x = model.get_layer("b")(model.get_layer("a")(IMAGES))
    np.testing.assert_allclose(call(copy), IMAGES + call(with_attention, x), atol=1e-6)
    assert np.max(np.abs(call(copy) - call(model))) > 0.1


def test_source_is_untouched_and_shares_no_variable():
    model = residual_model()
    before = [layer.name for layer in model.layers], model.get_weights(), call(model)
    copy = insert_attention(model)
    for variable in copy.variables:
        variable.assign(np.full(variable.shape, 3))
    assert [layer.name for layer in model.layers] == before[0]
    for old, new in zip(before[1], model.get_weights()):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(call(model), before[2])
    assert not {id(v) for v in model.variables} & {id(v) for v in copy.variables}


def test_training_the_copy_leaves_the_source_usable():
    model = residual_model()
    before = call(model)
    copy = insert_attention(model)
    copy.compile("sgd", "mse")
    start = {layer.name: layer.get_weights() for layer in copy.layers}
    copy.fit(IMAGES, IMAGES, epochs=2, verbose=0)
    copy.predict(IMAGES, verbose=0)
    for name in ("a", "b", "b_cbam"):
        pairs = zip(start[name], copy.get_layer(name).get_weights(), strict=True)
        assert any(np.any(old != new) for old, new in pairs), name
    np.testing.assert_array_equal(call(model), before)


def test_names_and_order_are_kept():
    model = residual_model()
    copy = insert_attention(model)
    assert copy.name == model.name
    assert [layer.name for layer in copy.layers] == ["images", "a", "b", "b_cbam", "add"]
    assert copy.input.name == model.input.name


def test_flags_are_kept():
    model = residual_model()
    model.get_layer("a").trainable = False
    copy = insert_attention(model)
    assert not copy.get_layer("a").trainable
    assert copy.get_layer("b").trainable
    assert copy.get_layer("b_cbam").trainable
    assert len(copy.trainable_variables) == 2 + 7


def test_no_attention_gives_an_exact_copy():
    model = nested_model()
    model.get_layer("residual").trainable = False
    copy = insert_attention(model, None, where="no_such_layer")
    assert [v.path for v in copy.trainable_variables] == [v.path for v in model.trainable_variables]
    assert copy.count_params() == model.count_params()
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    for ours, theirs in zip(copy(IMAGES), model(IMAGES), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_dtype_policy_is_that_of_the_site():
    copy = insert_attention(residual_model(dtype="mixed_bfloat16"))
    assert copy.get_layer("b_cbam").dtype_policy.name == "mixed_bfloat16"
    assert copy.get_layer("a").dtype_policy.name == "mixed_bfloat16"
    assert copy.get_layer("b_cbam").channel_attention.compute_dtype == "bfloat16"


def test_data_format_is_that_of_the_model():
    inputs = keras.Input((4, None, None))
    x = conv("a", data_format="channels_first")(inputs)
    x = keras.layers.BatchNormalization(axis=1, name="b")(x)
    copy = insert_attention(keras.Model(inputs, keras.layers.Add()([inputs, x])))
    assert copy.get_layer("b_cbam").data_format == "channels_first"
    assert copy.get_layer("b_cbam").channel_attention.hidden_kernel.shape == (4, 1)


def test_compiled_model_gives_an_uncompiled_copy():
    model = residual_model()
    model.compile("sgd", loss=lambda y, p: ops.mean(ops.square(y - p)))
    copy = insert_attention(model)
    assert not copy.compiled
    np.testing.assert_array_equal(call(copy), call(model))


def test_nested_model_as_residual_branch():
    branch = keras.Sequential([keras.Input((8, 8, 4)), conv("a"), conv("b")], name="branch")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, keras.layers.Add()([inputs, branch(inputs)]))
    copy = insert_attention(model)
    assert attention_names(copy) == ["branch_cbam"]
    np.testing.assert_array_equal(call(copy), call(model))


def test_lambda_layer_is_refused():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Lambda(lambda x: x + 1, name="plus_one")(inputs)
    with pytest.raises(ValueError, match=r"A Lambda layer cannot be copied.*'plus_one'"):
        insert_attention(keras.Model(inputs, inputs + conv("a")(x)))


def test_dropout_seed_state_is_carried_over():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Dropout(0.5, seed=3, name="drop")(conv("a")(inputs))
    model = keras.Model(inputs, inputs + x)
    call(model, training=True)
    copy = insert_attention(model)
    np.testing.assert_array_equal(call(copy, training=True), call(model, training=True))


def test_shared_layer_gets_one_attention_for_each_call():
    shared = conv("shared")
    inputs = keras.Input((8, 8, 4))
    x = inputs + shared(inputs)
    model = keras.Model(inputs, x + shared(x))
    copy = insert_attention(model)
    assert attention_names(copy) == ["shared_cbam", "shared_cbam_1"]
    assert sum(layer.name == "shared" for layer in copy.layers) == 1
    np.testing.assert_array_equal(call(copy), call(model))
    first, second = (copy.get_layer(name) for name in attention_names(copy))
    assert first.weights[0] is not second.weights[0]
    for layer in (first, second):
        layer.channel_attention.identity_scale.assign(1.0)
        layer.spatial_attention.identity_scale.assign(1.0)
    x = ops.convert_to_tensor(IMAGES)
    x = x + first(copy.get_layer("shared")(x))
    expected = x + second(copy.get_layer("shared")(x))
    np.testing.assert_allclose(call(copy), ops.convert_to_numpy(expected), atol=1e-5)


def test_names_of_further_calls_are_not_those_of_other_layers():
    shared = conv("a")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, conv("a_cbam_1")(shared(shared(shared(inputs)))))
    copy = insert_attention(model, where="a")
    assert attention_names(copy) == ["a_cbam", "a_cbam_2", "a_cbam_3", "a_cbam_1"]
    np.testing.assert_array_equal(call(copy), call(model))


def test_nested_and_shared_models():
    model = nested_model()
    model.get_layer("sequential").get_layer("c").trainable = False
    copy = insert_attention(model)
    inner = copy.get_layer("residual")
    assert copy.get_layer("sequential").get_layer("residual") is inner
    assert attention_names(inner) == ["b_cbam"]
    assert not copy.get_layer("sequential").get_layer("c").trainable
    for ours, theirs in zip(copy(IMAGES), model(IMAGES)):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_sequential_model():
    model = randomized(keras.Sequential([keras.Input((8, 8, 4)), conv("a"), conv("b")]))
    copy = insert_attention(model, where=["a"])
    assert isinstance(copy, keras.Sequential)
    assert [layer.name for layer in copy.layers] == ["a", "a_cbam", "b"]
    np.testing.assert_array_equal(call(copy), call(model))


def test_multiple_inputs_and_outputs_keep_their_structure():
    inputs = {"x": keras.Input((8, 8, 4), name="x"), "y": keras.Input((8, 8, 4), name="y")}
    total = inputs["x"] + conv("a")(inputs["x"]) + inputs["y"]
    model = keras.Model(inputs, {"sum": total, "pooled": keras.layers.GlobalMaxPooling2D()(total)})
    copy = insert_attention(model)
    data = {"x": IMAGES, "y": IMAGES}
    ours, theirs = copy(data), model(data)
    assert set(ours) == {"sum", "pooled"}
    for name in ours:
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ours[name]), ops.convert_to_numpy(theirs[name])
        )


@pytest.mark.parametrize("pass_as", ["layer", "config", "callable"])
def test_templates(pass_as):
    template = CBAM(reduction_ratio=2, name="mine", start_as_identity=False)
    attention = {
        "layer": template,
        "config": {"class_name": "cbam", "config": {"reduction_ratio": 2}},
        "callable": lambda site: template if site == "b" else None,
    }[pass_as]
    copy = insert_attention(residual_model(), attention, where="[ab]")
    layer = copy.get_layer("b_cbam")
    assert layer is not template
    assert not template.built
    assert layer.reduction_ratio == 2
    assert layer.start_as_identity == (pass_as != "callable")
    assert attention_names(copy) == (["b_cbam"] if pass_as == "callable" else ["a_cbam", "b_cbam"])


def test_second_insertion_at_a_site_is_refused():
    copy = insert_attention(residual_model())
    with pytest.raises(ValueError, match="already has a layer 'b_cbam'"):
        insert_attention(copy)
    both = insert_attention(copy, "se", where=["b"])
    assert isinstance(both.get_layer("b_se"), ChannelAttention)


def test_file_round_trip(tmp_path):
    # Keras cannot reload a model that stands in two containers, so none does here.
    inputs = keras.Input((8, 8, 4))
    sequential = keras.Sequential([keras.Input((8, 8, 4)), conv("c")], name="sequential")
    plain = keras.Model(inputs, residual_model()(sequential(inputs)))
    model = insert_attention(plain, start_as_identity=False)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(call(reloaded), call(model), atol=1e-6)
    again = insert_attention(reloaded, "se", where="residual/b")
    np.testing.assert_array_equal(call(again), call(reloaded))


@keras.saving.register_keras_serializable(package="tests")
class Shift(keras.layers.Layer):
    """A custom layer with a layer inside and an argument."""

    def __init__(self, amount, **kwargs):
        super().__init__(**kwargs)
        self.amount = amount
        self.scale = keras.layers.Rescaling(2.0)

    def build(self, input_shape):
        self.offset = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return self.scale(inputs) + self.amount * self.offset

    def get_config(self):
        return {**super().get_config(), "amount": self.amount}


class Opaque(keras.layers.Layer):
    def __init__(self, function):
        super().__init__(name="opaque")
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__(name="subclassed")
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


def test_custom_layers():
    inputs = keras.Input((8, 8, 4))
    x = Shift(0.5, name="shift")(conv("a")(inputs))
    model = randomized(keras.Model(inputs, inputs + x))
    copy = insert_attention(model)
    assert attention_names(copy) == ["shift_cbam"]
    np.testing.assert_array_equal(call(copy), call(model))


@pytest.mark.parametrize("layer", [Opaque(ops.relu), Subclassed(Shift(0.5))])
def test_what_cannot_be_copied_is_said(layer):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, inputs + conv("a")(layer(inputs)))
    with pytest.raises(ValueError, match=rf"`get_config`.*Received: layer '{layer.name}' of class"):
        insert_attention(model)
    assert model(IMAGES).shape == (2, 8, 8, 4)


def test_backbone_inside_a_classifier():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.GlobalAveragePooling2D()(residual_model()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    copy = insert_attention(model, "se")
    assert copy.get_layer("residual").get_layer("b_se").pooling == ("avg",)
    np.testing.assert_array_equal(call(copy), call(model))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_model_of_another_dtype_policy(policy, dtype_policy):
    dtype_policy(policy)
    model = residual_model()
    dtype_policy("float32")
    copy = insert_attention(model)
    assert {layer.dtype_policy.name for layer in copy.layers[1:]} == {policy}
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ops.cast(copy(IMAGES), "float32")),
        ops.convert_to_numpy(ops.cast(model(IMAGES), "float32")),
    )


def test_adapted_normalization_keeps_its_statistics():
    normalization = keras.layers.Normalization(name="normalization")
    normalization.adapt(7 * IMAGES + 3)
    inputs = keras.Input((8, 8, 4))
    x = normalization(inputs)
    model = keras.Model(inputs, x + conv("a")(x))
    copy = insert_attention(model)
    np.testing.assert_array_equal(call(copy), call(model))
    assert np.max(np.abs(call(copy) - IMAGES)) > 1


def test_gated_branch_has_attention_before_its_gate():
    inputs = keras.Input((8, 8, 4))
    x = conv("a")(inputs)
    gate = keras.layers.Dense(4, activation="sigmoid")(
        keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    model = keras.Model(inputs, inputs + x * gate)
    copy = insert_attention(model)
    assert attention_names(copy) == ["a_cbam"]
    np.testing.assert_array_equal(call(copy), call(model))


def test_class_that_overrides_call_is_refused():
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training, mask=mask)

    inputs = keras.Input((8, 8, 4))
    with pytest.raises(ValueError, match=r"overrides `call`.*Received: "):
        insert_attention(Doubled(inputs, inputs + conv("a")(inputs)))
