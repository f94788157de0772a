"""Checks that every layer goes through, and the small tools that the layers' tests share."""

import contextlib
import inspect
import json

import keras
import numpy as np
from keras import ops

from keras_cbam.ops.attention import accumulation_dtype

BACKEND = keras.backend.backend()
POLICIES = ("float32", "float16", "mixed_float16", "mixed_bfloat16")
# JAX compiles every operation once for each new shape and dtype.
EXAMPLES = 3 if BACKEND == "jax" else 25
EAGER_POLICIES = ("float32", "mixed_bfloat16") if BACKEND == "jax" else POLICIES

# In float64 on the CPU, PyTorch cannot differentiate Keras's convolution with respect to its kernel
# ("slow_conv2d: grad_weight must be contiguous", keras.layers.Conv2D too), and `keras.ops.mean`
# of JAX computes in float32.
EXACT_DTYPE, EXACT_TOLERANCE = {
    "tensorflow": ("float64", 1e-6),
    "jax": ("float64", 2e-5),
    "torch": ("float32", 5e-5),
}[BACKEND]


@contextlib.contextmanager
def float64():
    """Lets the backend compute in float64: JAX turns it into float32 unless told otherwise."""
    if BACKEND == "jax":
        import jax

        with jax.enable_x64(True):
            yield
    else:
        yield


def to_numpy(value):
    """float64 copy of a tensor, or of each tensor of a nest. NumPy has no bfloat16."""
    if isinstance(value, (list, tuple)):
        return tuple(to_numpy(item) for item in value)
    if value is None:
        return None
    value = ops.convert_to_tensor(value)
    if keras.backend.standardize_dtype(value.dtype) in ("float16", "bfloat16"):
        value = ops.cast(value, "float32")
    return np.array(ops.convert_to_numpy(value), "float64")


def case_id(value):
    return value.__name__ if isinstance(value, type) else str(value)


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def random_input(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def weight_name(weight):
    return weight.path.split("/", 1)[1]


def weights_of(layer):
    """The weights as float64 arrays, by their path below the layer."""
    return {weight_name(weight): to_numpy(weight) for weight in layer.weights}


def randomize(layer, seed=1, **fixed):
    """Gives every weight random values (variances positive ones), or those in `fixed` by name."""
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        values = 0.5 * generator.normal(size=weight.shape)
        if weight.name == "moving_variance":
            values = np.abs(values) + 0.5
        weight.assign(np.broadcast_to(fixed.get(weight.name, values), weight.shape))
    return layer


def built(layer_class, arguments, inputs, **fixed):
    """A layer with random weights, for inputs like these."""
    layer = layer_class(**arguments)
    layer.build(inputs.shape)
    return randomize(layer, **fixed)


def assert_close(actual, expected, tolerance=2e-5):
    """Compares tensors, or nests of tensors and `None`, up to `tolerance` of the largest value."""
    if expected is None or isinstance(expected, (list, tuple)):
        assert type(actual) is type(expected)
        for item, other in zip(actual or (), expected or (), strict=True):
            assert_close(item, other, tolerance)
        return
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert actual.shape == expected.shape
    scale = max(1e-3, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def gradients(function, *arrays):
    """Gradients of a scalar function of tensors with respect to each of them, as NumPy arrays."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        results = tape.gradient(value, tensors, unconnected_gradients="zero")
    elif BACKEND == "jax":
        import jax

        results = jax.jit(jax.grad(function, argnums=tuple(range(len(tensors)))))(*tensors)
    else:
        import torch

        tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        results = torch.autograd.grad(function(*tensors), tensors, materialize_grads=True)
        results = [result.detach() for result in results]
    return [to_numpy(result) for result in results]


def layer_gradients(layer, inputs, direction=None, training=False):
    """Gradients of `mean(outputs)`, or of `sum(direction * outputs)`: the input's and weights' by
    name."""
    fixed = [variable.value for variable in layer.non_trainable_variables]
    direction = None if direction is None else ops.convert_to_tensor(direction)

    def loss(inputs, *weights):
        outputs, _ = layer.stateless_call(list(weights), fixed, inputs, training=training)
        outputs = ops.cast(outputs, "float64" if dtype_of(outputs) == "float64" else "float32")
        return ops.mean(outputs) if direction is None else ops.sum(outputs * direction)

    values = [variable.value for variable in layer.trainable_variables]
    results = gradients(loss, inputs, *values)
    return results[0], dict(zip(map(weight_name, layer.trainable_variables), results[1:]))


def central_differences(function, array, step=1e-6):
    """Gradient of a NumPy function of one array, element by element."""
    result = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        up, down = array.copy(), array.copy()
        up[index] += step
        down[index] -= step
        result[index] = (function(up) - function(down)) / (2 * step)
    return result


def check_outputs(layer_class, oracle, arguments, inputs, training=False, **fixed):
    """A layer with random weights gives the outputs and the scores of the formulas."""
    fixed = {name: value for name, value in fixed.items() if value is not None}
    layer = built(layer_class, arguments, inputs, **fixed)
    expected = oracle(inputs, weights_of(layer), training=training, **arguments)
    actual = layer(inputs, training=training, return_attention_scores=True)
    assert_close(actual, expected)
    assert_close(layer(inputs, training=training), actual[0], 0)


def check_gradients(layer_class, oracle, arguments, inputs, training=False):
    """Every gradient agrees with finite differences of the formulas."""
    with float64():
        inputs = np.asarray(inputs, EXACT_DTYPE)
        layer = built(layer_class, {**arguments, "dtype": EXACT_DTYPE}, inputs)
        weights = weights_of(layer)
        direction = np.random.default_rng(2).normal(size=inputs.shape).astype(EXACT_DTYPE)
        values = {"inputs": inputs.astype("float64"), **weights}

        def loss(name, value):
            replaced = {**values, name: value}
            outputs, _ = oracle(replaced.pop("inputs"), replaced, training=training, **arguments)
            return (outputs * direction).sum()

        of_inputs, of_weights = layer_gradients(layer, inputs, direction, training)
        assert len(of_weights) == len(layer.trainable_variables) > 0
        for name, actual in {"inputs": of_inputs, **of_weights}.items():
            expected = central_differences(lambda value, name=name: loss(name, value), values[name])
            assert_close(actual, expected, EXACT_TOLERANCE)


def check_config(layer_class, arguments):
    """Every constructor argument is in the config, and the config makes the same layer."""
    layer = layer_class(name="a_name", **arguments)
    config = layer.get_config()
    names = set(inspect.signature(layer_class.__init__).parameters) - {"self", "kwargs"}
    assert names | {"name", "dtype", "trainable"} <= set(config)
    for name, value in arguments.items():
        if isinstance(value, (bool, int, tuple)):
            assert config[name] == value
    assert layer_class.from_config(config).get_config() == config
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is layer_class
    assert copy.get_config() == config


def check_specs(layer_class, arguments, input_shape):
    """What a symbolic call promises is what a call returns, in every dtype policy."""
    inputs = random_input(input_shape)
    for policy in [arguments["dtype"]] if "dtype" in arguments else EAGER_POLICIES:
        layer = layer_class(**{**arguments, "dtype": policy})
        # A symbolic call cannot return the score `None` of a gate that is not there.
        _, scores = layer(inputs, return_attention_scores=True)
        complete = not isinstance(scores, tuple) or all(score is not None for score in scores)
        for with_scores in (False, True) if complete else (False,):
            symbolic = layer(keras.KerasTensor(input_shape), return_attention_scores=with_scores)
            eager = layer(inputs, return_attention_scores=with_scores)
            keras.tree.assert_same_structure(symbolic, eager)
            for spec, tensor in zip(keras.tree.flatten(symbolic), keras.tree.flatten(eager)):
                assert spec.shape == tuple(tensor.shape)
                assert dtype_of(spec) == dtype_of(tensor) == layer.compute_dtype
        assert layer.compute_output_shape(input_shape) == input_shape
        for weight in layer.weights:
            # Batch normalization keeps statistics that float16 could not hold.
            wide = "_norm/" in weight.path
            expected = accumulation_dtype(layer.compute_dtype) if wide else layer.variable_dtype
            assert dtype_of(weight) == expected


def check_unknown_sizes(layer_class, arguments, input_shape):
    """One model for every batch, height and width; only the channels are known."""
    layer = layer_class(**arguments)
    axis = 1 if layer.data_format == "channels_first" else len(input_shape) - 1
    unknown = [size if i == axis else None for i, size in enumerate(input_shape)]
    inputs = keras.Input(unknown[1:])
    model = keras.Model(inputs, layer(inputs))
    assert model.output.shape == tuple(unknown)
    for more in (0, 1):
        shape = [size if i == axis else size + more for i, size in enumerate(input_shape)]
        assert tuple(model(random_input(shape)).shape) == tuple(shape)


def is_before_norm(layer, name):
    """Whether it is a bias that batch normalization takes off again: it has no gradient."""
    before_norm = {"hidden_bias", "reduce_bias", "dilated_0_bias", "dilated_1_bias"}
    return hasattr(layer, "reduce_norm") and name.rpartition("/")[2] in before_norm


def check_training(layer_class, arguments, input_shape):
    """One step of `fit` changes weights and leaves them finite."""
    model = keras.Sequential([keras.Input(input_shape[1:]), layer_class(**arguments)])
    randomize(model.layers[0])
    before = weights_of(model.layers[0])
    # XLA has its own test; without a compiled step JAX would be slow.
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=BACKEND == "jax")
    x = random_input(input_shape)
    history = model.fit(x, np.ones_like(x), epochs=1, batch_size=len(x), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = weights_of(model.layers[0])
    assert all(np.isfinite(value).all() for value in after.values())
    still = {name for name in before if np.array_equal(before[name], after[name])}
    still = {name for name in still if not is_before_norm(model.layers[0], name)}
    assert not still, f"one step leaves {still} as they were"


def check_saving(layer_class, arguments, input_shape, folder):
    """A `.keras` file holds the layer and its weights."""
    model = keras.Sequential([keras.Input(input_shape[1:]), layer_class(**arguments)])
    randomize(model.layers[0])
    model.save(folder / "model.keras")
    copy = keras.saving.load_model(folder / "model.keras")
    assert copy.layers[0].get_config() == model.layers[0].get_config()
    x = random_input(input_shape)
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))


def check_layer(layer_class, arguments, input_shape, folder, trainable, non_trainable=0):
    """All that is asked of any layer; `trainable` and `non_trainable` are numbers of parameters."""
    layer = layer_class(**arguments)
    layer.build(input_shape)
    sizes = [int(np.prod(weight.shape)) for weight in layer.trainable_weights]
    assert sum(sizes) == trainable
    assert layer.count_params() == trainable + non_trainable
    check_config(layer_class, arguments)
    check_specs(layer_class, arguments, input_shape)
    check_unknown_sizes(layer_class, arguments, input_shape)
    check_training(layer_class, arguments, input_shape)
    check_saving(layer_class, arguments, input_shape, folder)
