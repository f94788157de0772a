"""TensorFlow: what is compiled when, and transformations of what XLA compiles."""

import sys

import keras
import numpy as np
import pytest

from keras_cbam import CBAM
from keras_cbam._compat import xla_context_test
from tests.checks import BACKEND, assert_close, built, random_input, to_numpy
from tests.layers.test_fused import fused_calls

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's")
__all__ = ["fused_calls"]


def test_the_private_name_is_there_and_tells():
    import tensorflow as tf

    found = {}

    def note(name):
        found[name] = xla_context_test()(tf.compat.v1.get_default_graph())
        return tf.constant(0)

    def nested():
        tf.function(note)("inner")
        return tf.while_loop(lambda i: i < 1, lambda i: (i + 1 + note("loop"),), [0])

    tf.function(nested, jit_compile=True)()
    tf.function(note)("plain")
    assert found == {"inner": True, "loop": True, "plain": False}


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_compiles_what_it_is_told_to(jit_compile, fused_calls, monkeypatch):
    """Also for a smaller last batch, and in `predict` and `evaluate`."""
    import tensorflow as tf

    callers, original = [], tf.function

    def counted(*arguments, **options):
        callers.append(sys._getframe(1).f_globals["__name__"])
        return original(*arguments, **options)

    inputs = keras.Input((8, 4, 16))
    model = keras.Model(inputs, CBAM(kernel_size=3)(inputs))
    model.compile("sgd", "mse", jit_compile=jit_compile)
    monkeypatch.setattr(tf, "function", counted)
    x = random_input((7, 8, 4, 16))
    expected = to_numpy(model(x))
    assert_close(model.predict(x, batch_size=4, verbose=0), expected, 1e-5)
    model.evaluate(x, x, batch_size=4, verbose=0)
    model.fit(x, x, batch_size=4, verbose=0)
    assert callers
    assert not [name for name in callers if name.startswith("keras_cbam")]
    assert bool(fused_calls) == jit_compile


def test_a_training_graph_holds_plain_operations(fused_calls):
    import tensorflow as tf

    layer = built(CBAM, {}, random_input((2, 8, 4, 16)))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
        return tape.gradient(outputs, x)

    for shape in ((2, 8, 4, 16), (None, None, None, 16)):
        definition = step.get_concrete_function(tf.TensorSpec(shape)).graph.as_graph_def()
        functions = definition.library.function
        nodes = [*definition.node, *(node for function in functions for node in function.node_def)]
        assert not any(node.attr["_XlaMustCompile"].b or node.op == "IdentityN" for node in nodes)
    assert not fused_calls


def test_unknown_sizes_take_the_plain_path_under_xla(fused_calls):
    import tensorflow as tf

    x = random_input((2, 5, 4, 16))
    layer = built(CBAM, {}, x)
    signature = [tf.TensorSpec((None, None, None, 16))]
    function = tf.function(lambda x: layer(x), jit_compile=True, input_signature=signature)
    assert_close(function(x), to_numpy(layer(x)), 1e-5)
    assert not fused_calls


def test_an_unknown_batch_is_fused(fused_calls):
    import tensorflow as tf

    layer = built(CBAM, {}, random_input((2, 5, 4, 16)))
    signature = [tf.TensorSpec((None, 5, 4, 16))]
    function = tf.function(lambda x: layer(x), jit_compile=True, input_signature=signature)
    for batch in (2, 3):
        x = random_input((batch, 5, 4, 16))
        assert_close(function(x), to_numpy(layer(x)), 1e-5)
    assert len(fused_calls) == 1


def exact():
    """A layer and inputs in float64."""
    import tensorflow as tf

    x = random_input((2, 4, 4, 8)).astype("float64")
    layer = built(CBAM, {"kernel_size": 3, "dtype": "float64"}, x)
    tangent = tf.constant(random_input(x.shape, 3).astype("float64"))
    return layer, tf.constant(x), tangent


def gradient(layer, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.square(layer(x, training=True)))
    return tape.gradient(loss, x)


def reverse_over_reverse(layer, x, tangent):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        product = tf.reduce_sum(gradient(layer, x) * tangent)
    return tape.gradient(product, x)


def forward_over_reverse(layer, x, tangent):
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        result = gradient(layer, x)
    return accumulator.jvp(result)


def forward(layer, x, tangent):
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        outputs = layer(x, training=True)
    return accumulator.jvp(outputs)


def batch_jacobian(layer, x, tangent):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)[:, :2, 0]
    return tape.batch_jacobian(outputs, x)


def vectorized_map(layer, x, tangent):
    import tensorflow as tf

    return tf.vectorized_map(lambda x: gradient(layer, x[None])[0], x)


def recompute_grad(layer, x, tangent):
    import tensorflow as tf

    recomputed = tf.recompute_grad(lambda x: layer(x, training=True))
    return gradient(lambda x, training: recomputed(x), x)


def loop(layer, x, tangent):
    import tensorflow as tf

    def twice(x, training):
        return tf.while_loop(
            lambda i, x: i < 2,
            lambda i, x: [i + 1, layer(x, training=training)],
            [0, x],
            maximum_iterations=2,
        )[1]

    return gradient(twice, x)


@pytest.mark.parametrize(
    "transformation",
    [
        reverse_over_reverse,
        forward_over_reverse,
        forward,
        batch_jacobian,
        vectorized_map,
        recompute_grad,
        loop,
    ],
)
def test_transformations_inside_what_xla_compiles(transformation, fused_calls):
    import tensorflow as tf

    layer, x, tangent = exact()
    expected = to_numpy(transformation(layer, x, tangent))
    assert np.abs(expected).max() > 1e-3
    assert not fused_calls
    for jit_compile in (False, True):
        function = tf.function(
            lambda *t: transformation(layer, *t), jit_compile=jit_compile, autograph=False
        )
        if jit_compile and transformation is forward_over_reverse:
            # XLA's form of the gradient of a slice has no gradient of its own in TensorFlow.
            with pytest.raises(LookupError, match="XlaDynamicUpdateSlice"):
                function(x, tangent)
        else:
            assert_close(function(x, tangent), expected, 1e-9)
        assert bool(fused_calls) == jit_compile


@pytest.mark.parametrize("jit_compile", [False, True])
def test_forward_mode_around_what_is_compiled(jit_compile):
    import tensorflow as tf

    layer, x, tangent = exact()
    function = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile)
    expected = to_numpy(forward(layer, x, tangent))
    assert_close(forward(lambda x, training: function(x), x, tangent), expected, 1e-9)
    function = tf.function(lambda x: gradient(layer, x), jit_compile=jit_compile)
    if jit_compile:
        with pytest.raises(LookupError, match="XlaDynamicUpdateSlice"):
            forward(lambda x, training: function(x), x, tangent)
        return
    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        result = function(x)
    expected = to_numpy(forward_over_reverse(layer, x, tangent))
    assert_close(accumulator.jvp(result), expected, 1e-9)
