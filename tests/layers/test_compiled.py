"""The lean path, compiled with a gradient written by hand, beside the plain one."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from tests.checks import (
    BACKEND,
    assert_close,
    built,
    case_id,
    layer_gradients,
    random_input,
    randomize,
    to_numpy,
    weights_of,
)

pytestmark = pytest.mark.skipif(
    BACKEND == "torch", reason="torch: nothing is compiled, every layer takes the plain path"
)

PATHS = [
    (ChannelAttention, {"reduction_ratio": 2}),
    (ChannelAttention, {"pooling": "max"}),
    (ChannelAttention, {"pooling": ("lse", "avg", "lp")}),
    (SpatialAttention, {"kernel_size": 3, "use_bias": True}),
    (SpatialAttention, {"kernel_size": 3, "pooling": ("conv", "max"), "use_batch_norm": True}),
    (CBAM, {"reduction_ratio": 2}),
    (CBAM, {"use_batch_norm": True, "start_as_identity": True}),
    (CBAM, {"kernel_size": 1, "residual": True, "start_as_identity": True}),
    (CBAM, {"kernel_size": 3, "spatial_pooling": ("max", "conv")}),
    (CBAM, {"kernel_size": 3, "pooling": ("lp", "max"), "arrangement": "spatial_channel"}),
    (CBAM, {"kernel_size": 3, "arrangement": "spatial_channel", "gate_activation": "tanh"}),
    (CBAM, {"kernel_size": 3, "arrangement": "parallel", "use_batch_norm": True}),
    (CBAM, {"kernel_size": 3, "arrangement": "channel"}),
    (CBAM, {"kernel_size": 3, "arrangement": "spatial", "residual": True}),
    (BAM, {"reduction_ratio": 2, "dilation_rate": 1}),
]
# One channel; a 1x1 map; numbers that divide well and badly; both at once.
SHAPES = [(2, 3, 4, 1), (1, 1, 1, 32), (2, 1, 1, 1), (3, 8, 6, 48), (2, 5, 5, 7), (1, 4, 4, 32)]
RANKS = [(2, 12, 32), (2, 5, 4, 32), (2, 4, 3, 4, 16)]


def step(layer, inputs, direction):
    """Outputs and gradients of `sum(direction * outputs)` in training, TensorFlow."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, direction.dtype) * direction)
    sources = [inputs, *(variable.value for variable in layer.trainable_variables)]
    return outputs, *tape.gradient(loss, sources, unconnected_gradients="zero")


def plain_and_lean(layer, inputs, direction=None, jit_compile=False):
    """What an eager step and one in a graph give, moving statistics included: pairs by name."""
    import tensorflow as tf

    inputs = tf.cast(tf.convert_to_tensor(inputs), layer.compute_dtype)
    wide = "float64" if layer.compute_dtype == "float64" else "float32"
    direction = random_input(inputs.shape, 7) if direction is None else direction
    direction = tf.cast(tf.convert_to_tensor(direction), wide)
    names = ["outputs", "inputs", *(weight.path for weight in layer.trainable_variables)]
    before = layer.get_weights()
    compiled = tf.function(step, jit_compile=jit_compile)
    graph = compiled.get_concrete_function(layer, inputs, direction).graph
    assert bool(compiled_functions(graph)) == (layer.is_lean and len(inputs.shape) < 5)
    values = []
    for function in (step, compiled):
        layer.set_weights(before)
        values.append(dict(zip(names, map(to_numpy, function(layer, inputs, direction)))))
        values[-1].update((v.path, to_numpy(v)) for v in layer.non_trainable_variables)
    layer.set_weights(before)
    plain, lean = values
    return {name: (plain[name], lean[name]) for name in plain}


def assert_alike(pairs, tolerance=1e-5):
    assert len(pairs) > 2
    for name, (plain, lean) in pairs.items():
        scale = max(1e-3, np.abs(plain).max())
        np.testing.assert_allclose(lean, plain, rtol=0, atol=tolerance * scale, err_msg=name)


tensorflow_only = pytest.mark.skipif(
    BACKEND != "tensorflow", reason=f"{BACKEND}: eager calls take the same path as graphs"
)


@tensorflow_only
@pytest.mark.parametrize(("layer_class", "arguments"), PATHS, ids=case_id)
def test_every_option_has_the_plain_path_s_gradients(layer_class, arguments):
    # Batch normalization takes some gradients to zero, where float32 leaves only its rounding.
    exact = "use_batch_norm" in arguments or layer_class is BAM
    arguments = {**arguments, "dtype": "float64" if exact else "float32"}
    for shape in SHAPES if set(arguments) == {"reduction_ratio", "dtype"} else SHAPES[3:5]:
        inputs = random_input(shape)
        pairs = plain_and_lean(built(layer_class, arguments, inputs), inputs)
        assert_alike(pairs, 1e-9 if exact else 1e-5)


@tensorflow_only
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape", RANKS, ids=str)
@pytest.mark.parametrize("arrangement", ["channel_spatial", "spatial_channel"])
def test_every_rank_and_format(arrangement, shape, data_format):
    inputs = random_input(shape)
    if data_format == "channels_first":
        inputs = np.moveaxis(inputs, -1, 1)
    arguments = {"kernel_size": 5, "arrangement": arrangement, "data_format": data_format}
    assert_alike(plain_and_lean(built(CBAM, arguments, inputs), inputs))


@tensorflow_only
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("float64", 1e-12), ("mixed_bfloat16", 1e-2), ("mixed_float16", 2e-3), ("float16", 2e-3)],
)
@pytest.mark.parametrize("arrangement", ["channel_spatial", "spatial_channel"])
def test_every_policy(policy, tolerance, arrangement):
    inputs = random_input((3, 6, 4, 32))
    arguments = {"kernel_size": 3, "arrangement": arrangement, "dtype": policy}
    assert_alike(plain_and_lean(built(CBAM, arguments, inputs), inputs), tolerance)


@tensorflow_only
@pytest.mark.parametrize("arrangement", ["channel_spatial", "spatial_channel", "parallel"])
def test_ties_share_the_gradient(arrangement):
    """As after a ReLU: channels and positions that are all zero, and whole numbers."""
    inputs = np.maximum(np.round(random_input((2, 4, 6, 32))), 0)
    inputs[0, :, :, :8] = 0
    inputs[1, 2] = 0
    layer = built(CBAM, {"kernel_size": 3, "arrangement": arrangement}, inputs)
    assert_alike(plain_and_lean(layer, inputs))
    inputs = np.zeros_like(inputs)
    assert_alike(plain_and_lean(layer, inputs))


@tensorflow_only
def test_inside_a_compiled_step():
    inputs = random_input((2, 8, 4, 32))
    layer = built(CBAM, {"use_batch_norm": True}, inputs)
    assert_alike(plain_and_lean(layer, inputs, jit_compile=True))


@tensorflow_only
def test_bit_equal_from_run_to_run():
    inputs = random_input((4, 8, 8, 64))
    layer = built(CBAM, {}, inputs)
    runs = [plain_and_lean(layer, inputs) for _ in range(3)]
    for other in runs[1:]:
        for name, (_, lean) in runs[0].items():
            np.testing.assert_array_equal(lean, other[name][1])


@tensorflow_only
def test_unknown_sizes_take_the_plain_path():
    import tensorflow as tf

    inputs = random_input((2, 5, 4, 16))
    layer = built(CBAM, {}, inputs)
    direction = random_input(inputs.shape, 7)
    signature = tf.TensorSpec((None, None, None, 16))
    graph = tf.function(lambda *tensors: step(layer, *tensors)).get_concrete_function(
        signature, signature
    )
    assert not compiled_functions(graph.graph)
    expected = step(layer, tf.convert_to_tensor(inputs), tf.convert_to_tensor(direction))
    assert_close(list(graph(inputs, direction)), list(expected), 1e-5)


def compiled_functions(graph):
    """The operations of a graph, and of the functions that it calls, that XLA must compile."""
    definition = graph.as_graph_def()
    functions = definition.library.function
    nodes = [*definition.node, *(node for function in functions for node in function.node_def)]
    found = [node.name for node in nodes if node.attr["_XlaMustCompile"].b]
    return found + [f.signature.name for f in functions if f.attr["_XlaMustCompile"].b]


@tensorflow_only
def test_layers_with_the_same_settings_share_one_compiled_function():
    import tensorflow as tf

    inputs = tf.convert_to_tensor(random_input((2, 8, 4, 16)))
    layers = [built(CBAM, {"kernel_size": 3, "name": name}, inputs) for name in ("one", "two")]
    randomize(layers[1], seed=2)
    other = built(CBAM, {"kernel_size": 3, "gate_activation": "tanh"}, inputs)

    @tf.function
    def function(inputs):
        with tf.GradientTape():
            return [layer(inputs, training=True) for layer in (*layers, other)]

    names = {
        node.attr["f"].func.name
        for node in function.get_concrete_function(inputs).graph.as_graph_def().node
        if node.op.endswith("PartitionedCall")
    }
    assert len(names) == 2
    outputs = function(inputs)
    assert_close(list(outputs), [to_numpy(layer(inputs)) for layer in (*layers, other)])
    assert np.abs(to_numpy(outputs[0]) - to_numpy(outputs[1])).max() > 1e-2
    for layer in layers:
        assert_alike(plain_and_lean(layer, inputs))


@tensorflow_only
def test_settings_that_change_later_are_obeyed():
    inputs = random_input((2, 6, 4, 16))
    layer = built(CBAM, {"kernel_size": 3, "use_batch_norm": True}, inputs)
    assert_alike(plain_and_lean(layer, inputs))
    other = randomize(built(CBAM, {"kernel_size": 3, "use_batch_norm": True}, inputs), seed=2)
    layer.spatial_attention.batch_norm.trainable = False
    assert_alike(plain_and_lean(layer, inputs))
    # The functions that both had are traced again, for another shape, by the one that still has
    # them.
    inputs = random_input((3, 4, 4, 16))
    assert_alike(plain_and_lean(other, inputs))
    assert_alike(plain_and_lean(layer, inputs))


def change_momentum(layer):
    layer.spatial_attention.batch_norm.momentum = 0.1
    layer.spatial_attention.batch_norm.epsilon = 1.0


def change_activation(layer):
    layer.channel_attention.activation = keras.activations.tanh


def freeze_one_kernel(layer):
    layer.channel_attention.hidden_kernel.trainable = False


def freeze_the_other_kernel(layer):
    layer.channel_attention.output_kernel.trainable = False


@tensorflow_only
@pytest.mark.parametrize(
    "change", [change_momentum, change_activation, freeze_one_kernel, freeze_the_other_kernel]
)
def test_settings_of_the_parts_are_obeyed(change):
    inputs = random_input((2, 4, 4, 8))
    arguments = {"kernel_size": 3, "use_batch_norm": True, "use_bias": False, "reduction_ratio": 1}
    first, second = (built(CBAM, arguments, inputs) for _ in range(2))
    change(second)
    for layer in (first, second):
        assert_alike(plain_and_lean(layer, inputs))


@tensorflow_only
def test_activations_of_the_user_take_the_plain_path():
    """They may hold variables, which must train, or operations that XLA cannot compile."""
    import tensorflow as tf

    temperature = tf.Variable(2.0)
    inputs = tf.constant(random_input((2, 4, 4, 8)))
    layer = built(
        CBAM, {"kernel_size": 3, "gate_activation": lambda z: ops.sigmoid(z / temperature)}, inputs
    )

    def of_temperature(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs, training=True))
        return tape.gradient(loss, temperature)

    assert_close(tf.function(of_temperature)(inputs), to_numpy(of_temperature(inputs)), 1e-5)


@tensorflow_only
def test_batch_jacobian():
    """Vectorized, the backward half computes the gates in another order than the forward half."""
    import tensorflow as tf

    inputs = tf.constant(random_input((2, 3, 3, 8)))
    layer = built(CBAM, {"kernel_size": 3}, inputs)

    def jacobian(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        return tape.batch_jacobian(outputs, inputs)

    assert_close(tf.function(jacobian)(inputs), to_numpy(jacobian(inputs)), 1e-5)


@tensorflow_only
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:tensorflow.*")
def test_exports_hold_plain_operations(tmp_path):
    import tensorflow as tf

    inputs = keras.Input((8, 8, 32))
    model = keras.Model(inputs, CBAM(use_batch_norm=True)(inputs))
    model.compile("sgd", "mse", jit_compile=False)
    x = random_input((4, 8, 8, 32))
    model.fit(x, x, verbose=0)
    archive = keras.export.ExportArchive()
    archive.track(model)
    specs = [tf.TensorSpec((None, 8, 8, 32))]
    for name, training in (("serve", None), ("inference", False), ("training", True)):
        archive.add_endpoint(
            name, lambda x, training=training: model(x, training=training), input_signature=specs
        )
    archive.write_out(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    for name in ("serve", "inference", "training"):
        graph = served.signatures["serving_default" if name == "serve" else name].graph
        assert not compiled_functions(graph)
        definition = graph.as_graph_def()
        nodes = [n for f in definition.library.function for n in f.node_def] + list(definition.node)
        assert not [n.name for n in nodes if n.op == "IdentityN" or "_gradient_op_type" in n.attr]
    assert_close(served.serve(x), to_numpy(model(x)), 1e-5)


@tensorflow_only
def test_training_keeps_the_inputs_and_small_maps_only():
    """Nothing as large as the inputs goes from the forward to the backward function."""
    import tensorflow as tf

    shape = (8, 16, 16, 64)
    layer = built(CBAM, {}, random_input(shape))
    x = tf.TensorSpec(shape)
    graph = tf.function(lambda *tensors: step(layer, *tensors)).get_concrete_function(x, x).graph
    forward, backward = (op for op in graph.get_operations() if op.type.endswith("PartitionedCall"))
    of_forward = {tensor.ref() for tensor in forward.outputs}
    kept = [tensor for tensor in backward.inputs if tensor.ref() in of_forward]
    assert kept
    assert all(tensor.shape.num_elements() < np.prod(shape) / 16 for tensor in kept)
    large = [tensor for tensor in forward.outputs if tensor.shape.num_elements() == np.prod(shape)]
    assert len(large) == 1


@tensorflow_only
def test_second_derivatives_are_those_of_the_plain_path():
    import tensorflow as tf

    inputs = tf.convert_to_tensor(random_input((2, 4, 4, 16)).astype("float64"))
    layer = built(CBAM, {"kernel_size": 3, "dtype": "float64"}, inputs)
    tangent = tf.convert_to_tensor(random_input(inputs.shape, 3).astype("float64"))

    def second(inputs):
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                loss = tf.reduce_sum(tf.square(layer(inputs, training=True)))
            product = tf.reduce_sum(inner.gradient(loss, inputs) * tangent)
        return outer.gradient(product, inputs)

    assert_close(tf.function(second)(inputs), to_numpy(second(inputs)), 1e-10)


@pytest.mark.skipif(BACKEND != "jax", reason="forward mode is JAX's")
@pytest.mark.parametrize(("layer_class", "arguments"), PATHS, ids=case_id)
def test_forward_mode_takes_the_plain_path(layer_class, arguments):
    """The derivative along a direction (plain) is the gradient (lean) times the direction."""
    import jax

    inputs = random_input((2, 4, 4, 32))
    layer = built(layer_class, arguments, inputs)
    tangent, direction = random_input(inputs.shape, 3), random_input(inputs.shape, 7)
    values = [variable.value for variable in layer.trainable_variables]
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def loss(inputs, values):
        outputs, _ = layer.stateless_call(values, fixed, inputs, training=True)
        return ops.sum(outputs * direction)

    inputs = ops.convert_to_tensor(inputs)
    of_inputs, of_weights = layer_gradients(layer, inputs, direction, training=True)
    along = jax.jvp(lambda x: loss(x, values), (inputs,), (ops.convert_to_tensor(tangent),))[1]
    assert_close(along, np.array((of_inputs * tangent).sum()), 1e-4)
    along = jax.jvp(lambda values: loss(inputs, values), (values,), (values,))[1]
    terms = [
        (of_weights[name] * value).sum()
        for name, value in weights_of(layer).items()
        if name in of_weights
    ]
    assert_close(along, np.array(sum(terms)), 1e-4)


@tensorflow_only
@pytest.mark.parametrize("layer_class", [ChannelAttention, SpatialAttention, CBAM])
def test_predict_under_xla(layer_class, monkeypatch):
    """The lean path, with the plain path's outputs; without XLA, plain operations."""
    from keras_cbam.ops import reductions

    inputs = random_input((4, 8, 4, 32))
    layer = built(layer_class, {}, inputs)
    model = keras.Sequential([keras.Input((8, 4, 32)), layer])
    expected = to_numpy(model(inputs))
    calls = []
    original = reductions.reduce_expression

    def counted(*arguments):
        calls.append(arguments[0])
        return original(*arguments)

    monkeypatch.setattr("keras_cbam.ops.lean.reduce_expression", counted)
    for jit_compile in (False, True):
        model.compile("sgd", "mse", jit_compile=jit_compile)
        assert_close(model.predict(inputs, verbose=0), expected, 1e-6)
        loss = model.evaluate(inputs, expected.astype("float32"), verbose=0)
        assert loss < 1e-10
        assert bool(calls) == jit_compile


@tensorflow_only
def test_a_subclass_takes_the_plain_path():
    """Its settings may not be in its configuration, so that no two of them may share a function."""
    import tensorflow as tf

    class Scaled(CBAM):
        factor = 1.0

        def refine(self, inputs, training=None):
            outputs, scores = super().refine(inputs, training)
            return self.factor * outputs, scores

    inputs = random_input((2, 8, 4, 16))
    one, two = (built(Scaled, {"kernel_size": 3}, inputs) for _ in range(2))
    two.factor = 2.0
    step_of = tf.function(step)
    direction = tf.ones(inputs.shape)
    first, second = (step_of(layer, tf.constant(inputs), direction)[0] for layer in (one, two))
    assert_close(second, 2 * to_numpy(first), 1e-6)


@tensorflow_only
def test_replicas_of_a_mirrored_strategy():
    """Two logical devices; the gates, and their gradients, are those of the whole batch."""
    script = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from keras_cbam import CBAM

def trained(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((8, 4, 16)), CBAM(kernel_size=3)])
        model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    x = np.random.default_rng(0).normal(size=(8, 8, 4, 16)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, x[::-1].copy())).batch(4)
    model.fit(data, epochs=2, verbose=0)
    return model.get_weights()

devices = [device.name for device in tf.config.list_logical_devices("CPU")]
assert len(devices) == 2
one = trained(tf.distribute.get_strategy())
two = trained(tf.distribute.MirroredStrategy(devices))
for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
"""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
