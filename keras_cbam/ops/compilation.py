"""Which operations a compiler will fuse, and for which device."""

import contextlib
import contextvars
import functools
import numbers
import platform

import keras

_INSIDE_COMPILED_FUNCTION = contextvars.ContextVar("inside_compiled_function", default=False)


@contextlib.contextmanager
def inside_compiled_function():
    """What is traced in this block is compiled by XLA as a whole."""
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
    shape, so that every size but the batch must be known. In three dimensions XLA's convolution on
    the CPU takes longer than TensorFlow's for the whole layer.
    """
    if keras.backend.backend() != "tensorflow" or not has_static_shape(inputs):
        return False
    import tensorflow as tf
    from tensorflow.python.eager import record

    is_traced_for_gradient = tf.inside_function() and record.could_possibly_record()
    return is_traced_for_gradient and len(inputs.shape) < 5 and _may_use_xla()


def _may_use_xla():
    """As Keras decides for `jit_compile="auto"`."""
    import tensorflow as tf
    from tensorflow.python.framework.config import is_op_determinism_enabled

    is_apple = platform.system() == "Darwin" and "arm" in platform.processor().lower()
    if is_apple and tf.config.list_physical_devices("GPU"):
        return False
    return tf.test.is_built_with_xla() and not is_op_determinism_enabled()


def is_compiled_for_inference():
    """Whether XLA compiles the TensorFlow graph that is being traced, and for no gradient."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf
    from tensorflow.python.eager import record
    from tensorflow.python.ops import control_flow_util

    if not tf.inside_function() or record.could_possibly_record():
        return False
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def is_lean(inputs, *others):
    """Whether these inputs take the lean path: XLA compiles it, and only the batch is unknown.

    With JAX every path is compiled. Forward-mode differentiation, of the inputs or of the others,
    takes the plain path where it can be seen: a custom gradient cannot serve it.
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
