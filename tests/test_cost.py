import math

import keras
import pytest

from keras_cbam import (
    CBAM,
    ChannelAttention,
    ConvolutionControl,
    SpatialAttention,
    insert_attention,
)
from keras_cbam.cost import cost_table, count_multiply_adds, count_parameters


def application(name, **arguments):
    return getattr(keras.applications, name)(weights=None, **arguments)


def profile(model):
    """Multiply-adds of convolutions and matrix products, as TensorFlow's own profiler counts."""
    tf = pytest.importorskip("tensorflow")
    convert = pytest.importorskip("tensorflow.python.framework.convert_to_constants")
    analyzer = pytest.importorskip("tensorflow.python.profiler.model_analyzer")
    builder = pytest.importorskip("tensorflow.python.profiler.option_builder")
    specification = tf.TensorSpec((1, *model.input_shape[1:]))
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(specification)
    options = {**builder.ProfileOptionBuilder.float_operation(), "output": "none"}
    graph = convert.convert_variables_to_constants_v2(function).graph
    result = analyzer.profile(graph, cmd="op", options=options)
    found = {}
    while result.children:
        result = result.children[0]
        found[result.name] = result.total_float_ops - sum(
            child.total_float_ops for child in result.children
        )
    products = {"Conv2D", "DepthwiseConv2dNative", "MatMul"}
    assert {"Conv2D", "MatMul"} <= found.keys()
    return sum(count for name, count in found.items() if name in products) / 2


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's profiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [pytest.param("ResNet50", marks=pytest.mark.slow), "MobileNetV2"])
def test_agrees_with_the_profiler_of_tensorflow(name):
    model = application(name)
    assert count_multiply_adds(model) == pytest.approx(profile(model), rel=0.01)


def test_counts_of_the_paper():
    # Table 4 has 3.858 and 3.864 G for stride in the first 1x1, as Keras has it.
    model = application("ResNet50")
    assert count_multiply_adds(model) == 3_857_973_248
    attended = insert_attention(model)
    assert round(count_multiply_adds(attended) / 1e9, 3) == 3.864
    assert count_parameters(model) == sum(math.prod(w.shape) for w in model.trainable_weights)


def one_layer(layer, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))


LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (LAYERS.Dense(5), (4,), 20),
        (LAYERS.Dense(5), (7, 4), 140),
        (LAYERS.Conv1D(6, 3, padding="same"), (10, 4), 10 * 3 * 4 * 6),
        (LAYERS.Conv2D(6, 3, strides=2), (9, 9, 4), 4 * 4 * 9 * 4 * 6),
        (LAYERS.Conv2D(6, 3, groups=2), (9, 9, 4), 7 * 7 * 9 * 2 * 6),
        (LAYERS.Conv2D(6, 3, dilation_rate=2), (9, 9, 4), 5 * 5 * 9 * 4 * 6),
        (LAYERS.Conv3D(2, 2), (3, 3, 3, 4), 8 * 8 * 4 * 2),
        (LAYERS.DepthwiseConv2D(3, depth_multiplier=2), (9, 9, 4), 7 * 7 * 9 * 4 * 2),
        (LAYERS.SeparableConv2D(6, 3), (9, 9, 4), 7 * 7 * (9 * 4 + 4 * 6)),
        (LAYERS.Conv2DTranspose(6, 3, strides=2), (5, 5, 4), 5 * 5 * 9 * 4 * 6),
        (LAYERS.EinsumDense("abc,cde->abde", (None, 2, 3)), (5, 4), 5 * 4 * 2 * 3),
        (LAYERS.EinsumDense("...x,xy->...y", 3), (5, 6, 4), 5 * 6 * 4 * 3),
        (LAYERS.BatchNormalization(), (9, 9, 4), 0),
        (LAYERS.LayerNormalization(axis=(1, 2)), (9, 9, 4), 0),
        (LAYERS.PReLU(), (9, 9, 4), 0),
        (LAYERS.Embedding(10, 3), (7,), 0),
        (ChannelAttention(2), (9, 9, 4), 2 * 2 * 4 * 2),
        (ChannelAttention(2, pooling="avg"), (9, 9, 4), 2 * 4 * 2),
        (SpatialAttention(7), (9, 8, 4), 9 * 8 * 98),
        (SpatialAttention(3, pooling="conv"), (9, 8, 4), 9 * 8 * (18 + 8)),
        (CBAM(2), (9, 8, 4), 2 * 2 * 4 * 2 + 9 * 8 * 98),
        (CBAM(2, arrangement="channel"), (9, 8, 4), 2 * 2 * 4 * 2),
        (ConvolutionControl(2), (9, 8, 4), 9 * 8 * 4 * 2 * 2),
        (CBAM(2, data_format="channels_first"), (4, 9, 8), 2 * 2 * 4 * 2 + 9 * 8 * 98),
    ],
    ids=lambda value: value.name if isinstance(value, keras.layers.Layer) else None,
)
def test_formulas(layer, shape, expected):
    assert count_multiply_adds(one_layer(layer, shape)) == expected


def test_products_of_two_tensors():
    x, y = keras.Input((5, 4)), keras.Input((4, 3))
    assert count_multiply_adds(keras.Model([x, y], x @ y)) == 5 * 4 * 3
    assert count_multiply_adds(keras.Model([x, y], keras.layers.Dot(axes=(2, 1))([x, y]))) == 60
    product = keras.ops.einsum("bij,bjk->bik", x, y)
    assert count_multiply_adds(keras.Model([x, y], product)) == 60


def test_constant_operands():
    x = keras.Input((5, 4))
    constant = keras.ops.ones((3, 5))
    assert count_multiply_adds(keras.Model(x, keras.ops.matmul(constant, x))) == 3 * 5 * 4
    kernel = keras.ops.ones((4, 3))
    for equation, operands in (("bij,jk->bik", (x, kernel)), ("jk,bij->bik", (kernel, x))):
        assert count_multiply_adds(keras.Model(x, keras.ops.einsum(equation, *operands))) == 60


def test_products_that_are_not_known():
    x = keras.Input((5, 4))
    for outputs in (keras.ops.tensordot(x, keras.ops.ones((4, 3)), 1), LAYERS.Attention()([x, x])):
        with pytest.raises(ValueError, match="are not known"):
            count_multiply_adds(keras.Model(x, outputs))


def test_nested_model_called_with_a_dict():
    z, a = keras.Input((3,), name="z"), keras.Input((4,), name="a")
    inner = keras.Model([z, a], [LAYERS.Dense(2)(z), LAYERS.Dense(5)(a)])
    outer = {"z": keras.Input((3,), name="z"), "a": keras.Input((4,), name="a")}
    assert count_multiply_adds(keras.Model(outer, inner(outer))) == 6 + 20


def test_calls_by_keyword():
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, LAYERS.Conv2D(4, 1, name="a")(inner_input), name="inner")
    sequential = keras.Sequential([keras.Input((8, 8, 4)), LAYERS.Conv2D(2, 1, name="b")])
    sequential.name = "other"
    inputs = keras.Input((8, 8, 4))
    x = LAYERS.Conv2D(4, 1, name="c")(inputs=inner(inputs=inputs))
    model = keras.Model(inputs, sequential(inputs=CBAM(2, name="d")(inputs=x)))
    counts = {row.name: row.multiply_adds for row in cost_table(model)}
    attention = 2 * 2 * 4 * 2 + 64 * 98
    assert counts == {"inner/a": 64 * 16, "c": 64 * 16, "d": attention, "other/b": 64 * 8}
    query, value = keras.Input((5, 4)), keras.Input((7, 4))
    outputs = Weighted()(query=query, value=value)
    assert count_multiply_adds(keras.Model([query, value], outputs)) == 5 * 4


def test_table_of_nested_and_shared_layers():
    shared = keras.layers.Conv2D(4, 1, name="shared")
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, shared(inner_input) + inner_input, name="inner")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, inner(inner(inputs)))
    rows = {(row.name, i): row for i, row in enumerate(cost_table(model))}
    calls = [row for (name, _), row in rows.items() if name == "inner/shared"]
    assert [row.parameters for row in calls] == [20, 0]
    assert [row.multiply_adds for row in calls] == [8 * 8 * 16] * 2
    assert calls[0].output_shape == (8, 8, 4)
    assert calls[0].class_name == "Conv2D"
    assert count_parameters(model) == 20
    assert count_multiply_adds(model) == 2 * 8 * 8 * 16


def test_sequential_models():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), keras.layers.Conv2D(6, 1, name="a"), CBAM(name="b")], name="inner"
    )
    model = keras.Sequential([keras.Input((8, 8, 4)), inner, keras.layers.Conv2D(2, 1, name="c")])
    rows = cost_table(model)
    assert [row.name for row in rows] == ["inner/a", "inner/b", "c"]
    assert [row.multiply_adds for row in rows] == [64 * 24, 2 * 2 * 6 + 64 * 98, 64 * 12]


def test_frozen_layers_count_and_statistics_do_not():
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), keras.layers.Conv2D(4, 1), keras.layers.BatchNormalization()]
    )
    model.trainable = False
    assert count_parameters(model) == 20 + 8


def test_unknown_sizes_need_an_input_shape():
    model = one_layer(keras.layers.Conv2D(6, 3, padding="same"), (None, None, 4))
    with pytest.raises(ValueError, match=r"every size.*Received: input_shape=None"):
        count_multiply_adds(model)
    assert count_multiply_adds(model, (8, 8, 4)) == 64 * 9 * 24
    assert count_multiply_adds(model, (16, 16, 4)) == 4 * 64 * 9 * 24
    for wrong in ((8, 8), (8, None, 4), (8, 8, 3), 8, [(8, 8, 4), (8, 8, 4)]):
        with pytest.raises(ValueError, match="must give every size"):
            count_multiply_adds(model, wrong)


def test_several_inputs():
    inputs = {"x": keras.Input((None, 4), name="x"), "y": keras.Input((3,), name="y")}
    model = keras.Model(
        inputs, [keras.layers.Dense(2)(inputs["x"]), keras.layers.Dense(5)(inputs["y"])]
    )
    assert count_multiply_adds(model, {"x": (7, 4), "y": (3,)}) == 7 * 8 + 15
    one = keras.Model({"x": inputs["x"]}, keras.layers.Dense(2)(inputs["x"]))
    assert count_multiply_adds(one, {"x": (7, 4)}) == 56


def test_counting_leaves_the_model_alone():
    model = insert_attention(application("MobileNetV2", alpha=0.35, input_shape=(32, 32, 3)))
    before = [len(layer._inbound_nodes) for layer in model.layers]
    count_multiply_adds(model, (64, 64, 3))
    assert model.get_layer("Conv1").output.shape == (None, 16, 16, 16)
    assert [len(layer._inbound_nodes) for layer in model.layers] == before


class Scale(keras.layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 2))

    def call(self, inputs):
        return inputs @ self.kernel


class CountedScale(Scale):
    def multiply_adds(self, input_shape):
        return 2 * math.prod(input_shape)


class Weighted(keras.layers.Layer):
    def call(self, query, value):
        return query * keras.ops.mean(value)

    def multiply_adds(self, input_shape):
        return math.prod(input_shape)


def test_layers_of_the_user():
    with pytest.raises(ValueError, match=r"'mine' are not known.*`multiply_adds\(input_shape\)"):
        count_multiply_adds(one_layer(Scale(name="mine"), (5, 4)))
    assert count_multiply_adds(one_layer(CountedScale(), (5, 4))) == 40


def test_subclassed_models_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="subclassed"):
        count_multiply_adds(Subclassed())
