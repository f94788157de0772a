import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import BAM, CBAM, ChannelAttention, ConvolutionControl, SpatialAttention
from tests.checks import (
    BACKEND,
    POLICIES,
    assert_close,
    built,
    case_id,
    check_layer,
    float64,
    is_before_norm,
    layer_gradients,
    random_input,
    randomize,
    to_numpy,
    weights_of,
)
from tests.layers import oracle

CHANNEL_POOLING = ("avg", "max", "lp", "lse")
SPATIAL_POOLING = ("avg", "max", "conv")
SEEDED = keras.initializers.RandomNormal(seed=1)

# Every constructor argument is somewhere here with a value that is not its default.
CASES = [
    (ChannelAttention, {}, (2, 4, 3, 8), 25, 0),
    (ChannelAttention, {"pooling": "lp", "dtype": "mixed_float16"}, (2, 5, 8), 25, 0),
    (
        ChannelAttention,
        {
            "reduction_ratio": 2,
            "pooling": CHANNEL_POOLING,
            "activation": "tanh",
            "gate_activation": "tanh",
            "use_bias": False,
            "start_as_identity": True,
            "data_format": "channels_first",
            "kernel_initializer": SEEDED,
            "bias_initializer": "ones",
            "kernel_regularizer": keras.regularizers.L2(0.1),
            "bias_regularizer": "l1",
        },
        (2, 8, 4, 3),
        65,
        0,
    ),
    (SpatialAttention, {}, (2, 5, 4, 6), 98, 0),
    (SpatialAttention, {"kernel_size": 3}, (2, 3, 2, 4, 5), 54, 0),
    (
        SpatialAttention,
        {
            "kernel_size": 3,
            "pooling": ("conv", "max"),
            "gate_activation": "tanh",
            "use_bias": True,
            "start_as_identity": True,
            "data_format": "channels_first",
            "kernel_initializer": SEEDED,
            "bias_initializer": "ones",
            "kernel_regularizer": "l2",
            "bias_regularizer": keras.regularizers.L1(0.1),
        },
        (2, 6, 5, 4),
        27 + 12 + 1 + 1,
        0,
    ),
    (SpatialAttention, {"kernel_size": 3, "use_batch_norm": True}, (2, 5, 4, 6), 20, 2),
    (CBAM, {}, (2, 4, 3, 8), 123, 0),
    (
        CBAM,
        {
            "reduction_ratio": 2,
            "kernel_size": 3,
            "pooling": CHANNEL_POOLING,
            "arrangement": "parallel",
            "use_batch_norm": True,
            "residual": True,
            "start_as_identity": True,
            "data_format": "channels_first",
            "spatial_pooling": SPATIAL_POOLING,
            "activation": "tanh",
            "gate_activation": "tanh",
            "use_bias": False,
            "kernel_initializer": SEEDED,
            "bias_initializer": "ones",
            "kernel_regularizer": keras.regularizers.L2(0.1),
            "bias_regularizer": "l1",
        },
        (2, 8, 4, 3),
        64 + 16 + 36 + 2 + 1,
        2,
    ),
    (CBAM, {"arrangement": "spatial_channel", "start_as_identity": True}, (2, 5, 8), 41, 0),
    (CBAM, {"arrangement": "channel", "dtype": "mixed_bfloat16"}, (2, 4, 3, 8), 25, 0),
    (CBAM, {"arrangement": "spatial", "dtype": "mixed_float16"}, (2, 4, 3, 8), 98, 0),
    (BAM, {"reduction_ratio": 2}, (4, 5, 4, 8), 36 + 40 + 36 + 2 * 148 + 5 + 4 * 8, 32),
    (
        BAM,
        {
            "reduction_ratio": 2,
            "dilation_rate": 2,
            "combine": "multiply",
            "gate_activation": "tanh",
            "start_as_identity": True,
            "data_format": "channels_first",
            "kernel_initializer": SEEDED,
            "bias_initializer": "ones",
            "kernel_regularizer": keras.regularizers.L2(0.1),
            "bias_regularizer": "l1",
        },
        (4, 6, 9),
        21 + 24 + 21 + 2 * 30 + 4 + 4 * 6 + 1,
        24,
    ),
    (
        BAM,
        {"reduction_ratio": 1, "dilation_rate": 1, "dtype": "mixed_float16"},
        (3, 3, 2, 4, 3),
        12 + 12 + 12 + 2 * (27 * 9 + 3) + 4 + 4 * 6,
        24,
    ),
    (ConvolutionControl, {"dtype": "mixed_float16"}, (2, 4, 3, 8), 25, 0),
    (
        ConvolutionControl,
        {
            "reduction_ratio": 2,
            "start_as_identity": True,
            "data_format": "channels_first",
            "kernel_initializer": SEEDED,
            "bias_initializer": "ones",
            "kernel_regularizer": keras.regularizers.L2(0.1),
            "bias_regularizer": "l1",
        },
        (2, 8, 4, 3),
        32 + 4 + 32 + 8 + 1,
        0,
    ),
]

# One case for each way through the code: (class, arguments), for inputs with 8 channels.
PATHS = [
    (ChannelAttention, {"reduction_ratio": 2, "pooling": CHANNEL_POOLING}),
    (SpatialAttention, {"kernel_size": 3, "pooling": SPATIAL_POOLING}),
    (SpatialAttention, {"use_batch_norm": True}),
    (SpatialAttention, {"pooling": "conv", "use_bias": True}),
    (CBAM, {"reduction_ratio": 2}),
    (CBAM, {"reduction_ratio": 2, "arrangement": "spatial_channel"}),
    (CBAM, {"reduction_ratio": 2, "arrangement": "parallel"}),
    (CBAM, {"reduction_ratio": 2, "residual": True}),
    (CBAM, {"reduction_ratio": 2, "residual": True, "arrangement": "parallel"}),
    (BAM, {"reduction_ratio": 2}),
    (BAM, {"reduction_ratio": 2, "combine": "multiply"}),
    (ConvolutionControl, {"reduction_ratio": 2}),
]


@pytest.mark.parametrize(
    ("layer_class", "arguments", "input_shape", "trainable", "non_trainable"), CASES
)
def test_layer(layer_class, arguments, input_shape, trainable, non_trainable, tmp_path):
    check_layer(layer_class, arguments, input_shape, tmp_path, trainable, non_trainable)


@pytest.mark.parametrize(
    ("policy", "start_as_identity"), [("float16", False), ("mixed_float16", True)]
)
# The sums of a residual connection and of the control are above what float16 can represent.
@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [path for path in PATHS if "residual" not in path[1] and path[0] is not ConvolutionControl],
    ids=case_id,
)
def test_float16_holds_inputs_of_60000(layer_class, arguments, policy, start_as_identity):
    signs = np.where(random_input((1, 6, 5, 8)) > 0, 1, -1)
    inputs = np.concatenate([np.ones_like(signs), -np.ones_like(signs), signs])
    # BAM's outputs are up to twice its inputs.
    inputs = (3e4 if layer_class is BAM else 6e4) * inputs
    inputs = inputs.astype("float16")
    arguments = {**arguments, "dtype": policy, "start_as_identity": start_as_identity}
    layer = built(layer_class, arguments, inputs, identity_scale=0.5)
    for training in (False, True):
        outputs, scores = layer(inputs, training=training, return_attention_scores=True)
        scores = [score for score in keras.tree.flatten(scores) if score is not None]
        of_inputs, of_weights = layer_gradients(layer, inputs, training=training)
        for value in (outputs, *scores, of_inputs, *of_weights.values()):
            assert np.isfinite(to_numpy(value)).all()
        if "use_batch_norm" not in arguments and layer_class is not BAM:
            break


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_moving_statistics_hold_inputs_of_60000(policy):
    inputs = (6e4 * np.sign(random_input((2, 6, 5, 8)))).astype("float16")
    layer = built(SpatialAttention, {"use_batch_norm": True, "dtype": policy}, inputs)
    layer(inputs, training=True)
    for value in weights_of(layer).values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_float16", 2e-2), ("mixed_bfloat16", 5e-2)]
)
@pytest.mark.parametrize(("layer_class", "arguments"), PATHS, ids=case_id)
def test_mixed_precision_is_close_to_float32(layer_class, arguments, policy, tolerance):
    inputs = random_input((2, 6, 5, 8))
    layer = built(layer_class, arguments, inputs)
    mixed = layer_class(**arguments, dtype=policy)
    mixed.build(inputs.shape)
    mixed.set_weights(layer.get_weights())
    assert_close(mixed(inputs), to_numpy(layer(inputs)), tolerance)


@pytest.mark.parametrize("policy", [*POLICIES, "float64"])
@pytest.mark.parametrize(("layer_class", "arguments"), PATHS, ids=case_id)
def test_starts_as_the_exact_identity(layer_class, arguments, policy):
    with float64():
        layer = layer_class(**arguments, start_as_identity=True, dtype=policy)
        inputs = np.random.default_rng(0).normal(scale=1e3, size=(2, 6, 5, 8))
        inputs = ops.cast(ops.convert_to_tensor(inputs), layer.compute_dtype)
        is_normalized = "use_batch_norm" in arguments or layer_class is BAM
        for training in (False, True) if is_normalized else (False,):
            outputs = to_numpy(layer(inputs, training=training))
            np.testing.assert_array_equal(outputs, to_numpy(inputs))


@pytest.mark.parametrize(("layer_class", "arguments"), PATHS, ids=case_id)
def test_an_identity_can_train(layer_class, arguments):
    inputs = random_input((2, 6, 5, 8))
    arguments = {**arguments, "start_as_identity": True}
    for scale in (0.0, 0.1):
        layer = built(layer_class, arguments, inputs, identity_scale=scale)
        _, of_weights = layer_gradients(layer, inputs, direction=random_input(inputs.shape, 7))
        for name, gradient in of_weights.items():
            if scale or "identity_scale" in name:
                assert np.abs(gradient).max() > 1e-6, name


@pytest.mark.skipif(BACKEND == "torch", reason="torch: jit_compile is inductor's, needs a compiler")
@pytest.mark.parametrize(
    ("layer_class", "arguments"),
    [
        (ChannelAttention, {"reduction_ratio": 2, "pooling": CHANNEL_POOLING}),
        (CBAM, {"arrangement": "parallel", "start_as_identity": True, "use_batch_norm": True}),
        (CBAM, {"spatial_pooling": SPATIAL_POOLING, "use_batch_norm": True}),
        (BAM, {"reduction_ratio": 2, "dilation_rate": 2, "start_as_identity": True}),
    ],
    ids=case_id,
)
def test_xla_trains_alike(layer_class, arguments):
    x = random_input((8, 6, 5, 8))
    results = []
    for jit_compile in (False, True):
        layer = built(layer_class, arguments, x)
        model = keras.Sequential([keras.Input((6, 5, 8)), layer])
        model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=jit_compile)
        before = weights_of(layer)
        model.fit(x, x[::-1], batch_size=4, epochs=2, shuffle=False, verbose=0)
        after = weights_of(layer)
        trained = [name for name in before if not is_before_norm(layer, name)]
        assert all(np.abs(before[name] - after[name]).max() > 1e-6 for name in trained)
        results.append(after)
    for name, value in results[0].items():
        assert_close(results[1][name], value, 1e-5)


ORACLES = {
    ChannelAttention: "channel_attention",
    SpatialAttention: "spatial_attention",
    CBAM: "cbam",
    BAM: "bam",
    ConvolutionControl: "convolution_control",
}


class Twice(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.attention = layer

    def call(self, inputs):
        return self.attention(self.attention(inputs))


@pytest.mark.parametrize("layer_class", ORACLES)
class TestInModels:
    shape = (2, 4, 3, 6)

    def test_used_twice(self, layer_class):
        """Both calls are of one layer: the formula applied twice, one set of weights."""
        x = random_input(self.shape)
        layer = built(layer_class, {}, x)
        inputs = keras.Input(self.shape[1:])
        functional = keras.Model(inputs, layer(layer(inputs)))
        subclassed = Twice(layer)
        formula = getattr(oracle, ORACLES[layer_class])
        weights = weights_of(layer)
        expected, _ = formula(formula(x, weights)[0], weights)
        for model in (functional, subclassed):
            assert_close(model(x), expected)
            assert len(model.trainable_weights) == len(layer.trainable_weights)

    def test_nested(self, layer_class):
        x = random_input(self.shape)
        layer = built(layer_class, {}, x)
        inner = keras.Sequential([keras.Input(self.shape[1:]), layer])
        inputs = keras.Input((None, None, 6))
        outer = keras.Model(inputs, keras.layers.ReLU()(inner(inputs)))
        assert_close(outer(x), np.maximum(to_numpy(layer(x)), 0))
        assert len(outer.trainable_weights) == len(layer.trainable_weights)

    def test_unbuilt_sequential(self, layer_class):
        """The first call builds the layer for its inputs' channels."""
        x = random_input(self.shape)
        model = keras.Sequential([layer_class()])
        assert not model.built
        model(x)
        twin = built(layer_class, {}, x)
        model.set_weights(twin.get_weights())
        expected, _ = getattr(oracle, ORACLES[layer_class])(x, weights_of(twin))
        assert_close(model(x), expected)

    def test_time_distributed(self, layer_class):
        x = random_input((2, 3, *self.shape[1:]))
        layer = layer_class()
        inputs = keras.Input((3, *self.shape[1:]))
        model = keras.Model(inputs, keras.layers.TimeDistributed(layer)(inputs))
        randomize(layer)
        expected = np.stack([to_numpy(layer(x[:, step])) for step in range(3)], axis=1)
        assert_close(model(x), expected)


# Sums of the absolute weights that version 0.1.0 drew for this seed.
DRAWN = {
    "tensorflow": (12.5883, 10.058, 23.4102, 74.7142),
    "jax": (15.2657, 10.2844, 25.2533, 74.7019),
    "torch": (14.7039, 10.1831, 25.5161, 75.8733),
}


def test_a_seed_draws_the_same_weights_as_in_earlier_versions():
    drawn = []
    for layer_class in (ChannelAttention, SpatialAttention, CBAM, BAM):
        keras.utils.set_random_seed(7)
        if layer_class is SpatialAttention:
            layer = layer_class(kernel_size=3, pooling=("avg", "conv"))
        else:
            layer = layer_class(reduction_ratio=2)
        layer.build((None, 5, 4, 6))
        drawn.append(sum(np.abs(value).sum() for value in weights_of(layer).values()))
    np.testing.assert_allclose(drawn, DRAWN[BACKEND], atol=1e-3)
