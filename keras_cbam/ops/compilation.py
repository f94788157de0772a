"""Which operations a compiler will fuse, and for which device."""

import contextlib
import contextvars
import functools
import numbers

import keras

_INSIDE_COMPILED_FUNCTION = contextvars.ContextVar("inside_compiled_function", default=False)


@contextlib.contextmanager
def inside_compiled_function():
    """What is traced in this block is compiled by XLA as a whole. (TensorFlow does not tell.)"""
    token = _INSIDE_COMPILED_FUNCTION.set(True)
    try:
        yield
    finally:
        _INSIDE_COMPILED_FUNCTION.reset(token)


def has_static_shape(tensor):
    """Whether every size but the batch is known."""
    return all(isinstance(size, numbers.Integral) for size in tensor.shape[1:])


def may_compile(inputs):
    """Whether this is a part of a TensorFlow graph that is traced for its gradient.

    Only then: what is exported or called eagerly keeps plain operations. A compiled part serves one
    shape, so that every size but the batch must be known.
    """
    if keras.backend.backend() != "tensorflow" or not has_static_shape(inputs):
        return False
    import tensorflow as tf
    from tensorflow.python.eager import record

    is_traced_for_gradient = tf.inside_function() and record.could_possibly_record()
    return is_traced_for_gradient and tf.test.is_built_with_xla()


def is_compiled_prediction():
    """Whether this is a step of `predict` that XLA compiles as a whole.

    TensorFlow does not tell what compiles a graph; these are the names that Keras gives it. Were
    they others, the step would take the plain path.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if not tf.inside_function():
        return False
    graph = tf.compat.v1.get_default_graph()
    outer = getattr(graph.outer_graph, "name", None)
    is_predict = outer in ("one_step_on_data_distributed", "multi_step_on_data")
    return graph.name == "one_step_on_data" and is_predict


def is_lean(inputs, *others):
    """Whether these inputs take the lean path: XLA compiles it, and only the batch is unknown.

    With JAX every path is compiled. Forward-mode differentiation, of the inputs or of the others,
    takes the plain path: a custom gradient cannot serve it.
    """
    if not has_static_shape(inputs):
        return False
    if keras.backend.backend() == "jax":
        from jax.interpreters import ad

        return not any(isinstance(tensor, ad.JVPTracer) for tensor in (inputs, *others))
    return _INSIDE_COMPILED_FUNCTION.get()


@functools.cache
def compiles_for_cpu():
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "cpu"
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.config.list_physical_devices("GPU")
    return False
