"""Every private name of a framework that the package uses, with what it replaces and why."""

import functools

import keras


def build_training_state(model, batch):
    """Makes the variables of a compiled model's optimizer, losses and metrics.

    Keras makes them at the first step, which TensorFlow then traces a second time; and a checkpoint
    within an epoch can be restored into variables that exist only. `Trainer._symbolic_build` is
    what `fit` itself calls on JAX and PyTorch (Keras 3.12 to 3.15); there is no public name for it.

    Args:
        model: compiled `keras.Model`.
        batch: tuple of the inputs and targets of a step, tensors or arrays.
    """
    model._symbolic_build(data_batch=batch)


def is_compiled_around(tensor):
    """Whether XLA compiles the whole program that is being traced.

    With TensorFlow, `tf.function(jit_compile=True)` (so does Keras) traces in an XLA context, which
    the graphs of its loops and inner functions have around them too; a TPU's program has it as
    well. There is no public name that tells. Without the name, nothing counts as compiled.

    With JAX, whether the tensor is one that is traced.
    """
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(tensor, jax.core.Tracer)
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    in_xla_context = xla_context_test()
    return tf.inside_function() and in_xla_context(tf.compat.v1.get_default_graph())


@functools.cache
def xla_context_test():
    """TensorFlow's function (2.18 to 2.21) from a graph to whether XLA compiles it."""
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return lambda graph: False
    return GraphOrParentsInXlaContext
