"""The fused path, inside a program that XLA compiles, beside the plain one."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, ChannelAttention
from keras_cbam.ops import fused_cbam
from tests.checks import (
    BACKEND,
    EXACT_DTYPE,
    assert_close,
    built,
    case_id,
    float64,
    random_input,
    randomize,
    to_numpy,
)

pytestmark = pytest.mark.skipif(
    BACKEND == "torch", reason="torch: every layer takes the plain path"
)
tensorflow_only = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's")
jax_only = pytest.mark.skipif(BACKEND != "jax", reason="JAX's")

OPTIONS = [
    {},
    {"use_batch_norm": True, "start_as_identity": True, "kernel_size": 3},
    {"use_bias": False, "spatial_pooling": ("max", "avg"), "residual": True, "activation": "tanh"},
]
# One channel; a 1x1 map; numbers that divide well and badly; lines.
SHAPES = [(2, 3, 4, 1), (1, 1, 1, 32), (3, 8, 6, 48), (2, 5, 5, 7), (2, 12, 32), (2, 7, 5)]


@pytest.fixture
def fused_calls(monkeypatch):
    """The shapes of the inputs that took the fused path, which JAX takes on accelerators only."""
    calls, original = [], fused_cbam.cbam
    if BACKEND == "jax":
        monkeypatch.setattr(fused_cbam, "is_on_cpu", lambda: False)

    def counted(inputs, *others):
        calls.append(tuple(inputs.shape))
        return original(inputs, *others)

    monkeypatch.setattr(fused_cbam, "cbam", counted)
    return calls


def step(layer, inputs, direction):
    """Outputs, scores, moved statistics and all gradients of a loss of outputs and scores."""
    trainable = [variable.value for variable in layer.trainable_variables]
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def loss(inputs, trainable):
        (outputs, scores), moved = layer.stateless_call(
            trainable, fixed, inputs, training=True, return_attention_scores=True
        )
        values = [ops.sin(3 * ops.cast(score, direction.dtype)) for score in scores]
        values.append(ops.cast(outputs, direction.dtype) * direction)
        return sum(ops.sum(value) for value in values), (outputs, *scores, *moved)

    if BACKEND == "jax":
        import jax

        gradients, results = jax.grad(loss, (0, 1), has_aux=True)(inputs, trainable)
        return [*results, gradients[0], *gradients[1]]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch([inputs, *trainable])
        value, results = loss(inputs, trainable)
    return [*results, *tape.gradient(value, [inputs, *trainable])]


def compiled(function):
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def both_paths(layer, inputs, fused_calls):
    """What the plain and the fused path give."""
    dtype = "float64" if layer.compute_dtype == "float64" else "float32"
    inputs = ops.cast(ops.convert_to_tensor(inputs), layer.compute_dtype)
    direction = ops.convert_to_tensor(random_input(inputs.shape, 7).astype(dtype))
    number = len(fused_calls)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_cbam, "takes", lambda inputs: False)
        # JAX compiles operations one by one otherwise, which is slow.
        function = compiled if BACKEND == "jax" else lambda function: function
        plain = function(lambda *tensors: step(layer, *tensors))(inputs, direction)
    assert len(fused_calls) == number
    fused = compiled(lambda *tensors: step(layer, *tensors))(inputs, direction)
    assert len(fused_calls) == number + 1
    return plain, fused


def check(layer, inputs, fused_calls, tolerance=2e-5):
    plain, fused = both_paths(layer, inputs, fused_calls)
    assert len(plain) == len(fused) > 5
    for expected, actual in zip(plain, fused):
        assert_close(actual, to_numpy(expected), tolerance)


@pytest.mark.parametrize(
    "data_format", ["channels_last", pytest.param("channels_first", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("arguments", OPTIONS, ids=str)
def test_options_shapes_and_formats(arguments, data_format, fused_calls):
    """In float64: batch normalization takes some gradients to zero, float32 leaves its rounding."""
    with float64():
        for shape in SHAPES if arguments is OPTIONS[0] else SHAPES[2:5:2]:
            inputs = random_input(shape).astype("float64")
            if data_format == "channels_first":
                inputs = np.moveaxis(inputs, -1, 1)
            given = {**arguments, "data_format": data_format, "dtype": EXACT_DTYPE}
            layer = built(CBAM, given, inputs, identity_scale=0.4)
            check(layer, inputs, fused_calls, 1e-10 if BACKEND == "tensorflow" else 1e-5)


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("float32", 2e-5), ("mixed_bfloat16", 2e-2), ("mixed_float16", 3e-3), ("float16", 3e-3)],
)
def test_policies(policy, tolerance, fused_calls):
    inputs = random_input((3, 6, 4, 32))
    layer = built(CBAM, {"kernel_size": 3, "dtype": policy}, inputs)
    check(layer, inputs, fused_calls, tolerance)


def test_batch_normalization_keeps_its_precision_in_mixed_precision(fused_calls):
    """Its weights are float32: read by another layer, Keras would cast them to float16."""
    inputs = random_input((3, 6, 4, 16))
    arguments = {"use_batch_norm": True, "kernel_size": 3, "dtype": "mixed_float16"}
    layer = built(CBAM, arguments, inputs, beta=1.0001, moving_mean=1000.3)
    plain, fused = both_paths(layer, inputs, fused_calls)
    names = [variable.name for variable in layer.non_trainable_variables]
    moved = dict(zip(names, fused[3:]))
    assert_close(moved["moving_mean"], to_numpy(plain[3:][names.index("moving_mean")]), 1e-6)


@pytest.mark.parametrize("trainable", [True, False])
def test_inference_and_frozen_layers_normalize_with_the_moving_statistics(trainable, fused_calls):
    inputs = random_input((3, 6, 4, 16))
    layer = built(CBAM, {"use_batch_norm": True, "kernel_size": 3}, inputs)
    layer.trainable = trainable
    expected = to_numpy(layer(inputs, training=False))
    before = layer.get_weights()
    outputs = compiled(
        lambda x: layer.stateless_call(
            [v.value for v in layer.trainable_variables],
            [v.value for v in layer.non_trainable_variables],
            x,
            training=not trainable,
        )[0]
    )(inputs)
    assert_close(outputs, expected, 1e-5)
    assert fused_calls
    for value, other in zip(before, layer.get_weights()):
        np.testing.assert_array_equal(value, other)


def test_ties_share_the_gradient(fused_calls):
    """As after a ReLU: channels and positions that are all zero, and whole numbers."""
    inputs = np.maximum(np.round(random_input((2, 4, 6, 32))), 0)
    inputs[0, :, :, :8] = 0
    inputs[1, 2] = 0
    layer = built(CBAM, {"kernel_size": 3}, inputs)
    check(layer, inputs, fused_calls)
    check(layer, np.zeros_like(inputs), fused_calls)


def test_a_near_tie_of_the_inputs_is_no_tie(fused_calls):
    """The next float32 below a channel's maximum: only the maximum has the pool's gradient."""
    inputs = np.zeros((1, 2, 2, 16), "float32")
    inputs[0, 0, 0] = 1
    inputs[0, 0, 1] = np.nextafter(np.float32(1), np.float32(0))
    layer = built(CBAM, {"kernel_size": 1}, inputs)
    layer.spatial_attention.kernel.assign(ops.zeros(layer.spatial_attention.kernel.shape))
    check(layer, inputs, fused_calls, 1e-6)


def test_the_same_from_run_to_run(fused_calls):
    inputs = random_input((4, 8, 8, 64))
    layer = built(CBAM, {}, inputs)
    function = compiled(lambda *tensors: step(layer, *tensors))
    runs = [function(inputs, random_input(inputs.shape, 7)) for _ in range(3)]
    for other in runs[1:]:
        for value, again in zip(runs[0], other):
            np.testing.assert_array_equal(to_numpy(value), to_numpy(again))


@pytest.mark.parametrize("on_cpu", [pytest.param(True, marks=tensorflow_only), False])
def test_the_form_for_a_cpu_has_parts_and_no_convolution(on_cpu, monkeypatch, fused_calls):
    """Both forms compute the same; here, on a CPU, TensorFlow takes the first."""
    assert fused_cbam.is_on_cpu() == (BACKEND == "tensorflow")
    monkeypatch.setattr(fused_cbam, "is_on_cpu", lambda: on_cpu)
    inputs = random_input((2, 8, 6, 32))
    layer = built(CBAM, {}, inputs)
    check(layer, inputs, fused_calls)
    function = compiled(lambda *tensors: step(layer, *tensors))
    if BACKEND == "jax":
        text = str(function.trace(inputs, inputs).jaxpr)
    else:
        graph = function.get_concrete_function(inputs, inputs).graph
        text = str(sorted({operation.type for operation in graph.get_operations()}))
    assert ("conv_general_dilated" in text or "Conv2D" in text) != on_cpu
    assert ("split" in text.lower()) == on_cpu


def steep(x):
    return ops.sigmoid(2 * x)


class Doubled(CBAM):
    def refine(self, inputs, training=None, mask=None):
        outputs, scores = super().refine(inputs, training, mask)
        return 2 * outputs, scores


@pytest.mark.parametrize(
    ("layer_class", "arguments", "shape"),
    [
        (CBAM, {"arrangement": "parallel"}, (2, 4, 4, 8)),
        (CBAM, {"arrangement": "spatial_channel"}, (2, 4, 4, 8)),
        (CBAM, {"arrangement": "channel"}, (2, 4, 4, 8)),
        (CBAM, {"pooling": ("avg", "lse")}, (2, 4, 4, 8)),
        (CBAM, {"spatial_pooling": "max"}, (2, 4, 4, 8)),
        (CBAM, {"residual": True, "start_as_identity": True}, (2, 4, 4, 8)),
        (CBAM, {"gate_activation": steep}, (2, 4, 4, 8)),
        (CBAM, {"gate_activation": "log_softmax"}, (2, 4, 4, 8)),
        (CBAM, {"kernel_size": 3}, (2, 2, 4, 4, 8)),
        (ChannelAttention, {}, (2, 4, 4, 8)),
        (Doubled, {}, (2, 4, 4, 8)),
    ],
    ids=lambda value: "steep" if steep in getattr(value, "values", list)() else case_id(value),
)
def test_everything_else_takes_the_plain_path(layer_class, arguments, shape, fused_calls):
    inputs = random_input(shape)
    layer = built(layer_class, arguments, inputs)
    expected = to_numpy(layer(inputs))
    assert_close(compiled(lambda x: layer(x))(inputs), expected, 1e-5)
    assert not fused_calls


def test_activations_of_the_parts_are_obeyed(fused_calls):
    inputs = random_input((2, 4, 4, 8))
    layer = built(CBAM, {"kernel_size": 3, "reduction_ratio": 1}, inputs)
    layer.channel_attention.activation = keras.activations.tanh
    check(layer, inputs, fused_calls)
    layer.spatial_attention.gate_activation = keras.activations.tanh
    assert_close(compiled(lambda x: layer(x))(inputs), to_numpy(layer(inputs)), 1e-5)
    assert len(fused_calls) == 1


def test_several_threads(fused_calls):
    layers = [built(CBAM, {"kernel_size": 3}, random_input((2, 4, 4, 8))) for _ in range(4)]
    for seed, layer in enumerate(layers):
        randomize(layer, seed)
    inputs = random_input((2, 4, 4, 8))
    results = [None] * len(layers)

    def run(i):
        results[i] = compiled(lambda x: layers[i](x))(inputs)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(layers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for layer, result in zip(layers, results):
        assert_close(result, to_numpy(layer(inputs)), 1e-5)
    assert len(fused_calls) >= len(layers)
