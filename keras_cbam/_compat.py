"""Every private name of a framework that the package uses, with what it replaces and why."""

import functools
from collections.abc import Callable
from typing import Any

import keras


def _private(owner, name):
    """An attribute of that private name; raises ImportError in one sentence if it has gone."""
    if not hasattr(owner, name):
        raise ImportError(
            f"keras_cbam uses {type(owner).__name__}.{name}, which Keras {keras.__version__} "
            "does not have. Install an earlier Keras 3."
        )
    return getattr(owner, name)


def inner_layers(layer: Any, include_self: bool = True, recursive: bool = True) -> list:
    """A layer and all layers in it, or only its own ones: the public `layers` is of models only.

    `Layer._flatten_layers` of Keras 3.12 to 3.15.
    """
    return _private(layer, "_flatten_layers")(include_self=include_self, recursive=recursive)


def own_trainable_variables(layer: keras.Layer) -> list[keras.Variable]:
    """The trainable variables of a layer; the public `trainable_variables` has its layers' too."""
    return _private(layer, "_trainable_variables")


def node_of(tensor: keras.KerasTensor) -> Any:
    """The call that made a symbolic tensor: a node with its `operation`, arguments and outputs.

    `KerasTensor._keras_history` and `Operation._inbound_nodes` of Keras 3.12 to 3.15, by which
    Keras itself walks a graph.
    """
    operation, node_index, _ = _private(tensor, "_keras_history")
    return _private(operation, "_inbound_nodes")[node_index]


def run_through_graph(model: Any, inputs: Any, operation_fn: Callable[[Any], Callable]) -> Any:
    """Calls a Functional model with `operation_fn(operation)` in the place of each operation.

    `Functional._run_through_graph` of Keras 3.12 to 3.15, which its own `call` is made of.
    """
    return _private(model, "_run_through_graph")(inputs, operation_fn=operation_fn)


def build_training_state(model: keras.Model, batch: tuple) -> None:
    """Makes the variables of a compiled model's optimizer, losses and metrics.

    `batch` are the inputs and targets of a step. Keras makes them at the first step, which
    TensorFlow then traces a second time, and a checkpoint can be restored only into variables that
    exist. `Trainer._symbolic_build` is what `fit` calls on JAX and PyTorch (Keras 3.12 to 3.15).
    """
    _private(model, "_symbolic_build")(data_batch=batch)


def is_compiled_around(tensor: Any) -> bool:
    """Whether XLA compiles the whole program that is being traced.

    With TensorFlow, `tf.function(jit_compile=True)` (so does Keras) traces in an XLA context, which
    the graphs of its loops and inner functions have around them too; a TPU's program has it as
    well. Without the private name, nothing counts as compiled. With JAX, whether the tensor is one
    that is traced.
    """
    if keras.backend.backend() == "jax":
        import jax.core

        return isinstance(tensor, jax.core.Tracer)
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    in_xla_context = xla_context_test()
    return tf.inside_function() and in_xla_context(tf.compat.v1.get_default_graph())


@functools.cache
def xla_context_test() -> Callable[[Any], bool]:
    """TensorFlow's function (2.18 to 2.21) from a graph to whether XLA compiles it."""
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return lambda graph: False
    return GraphOrParentsInXlaContext
