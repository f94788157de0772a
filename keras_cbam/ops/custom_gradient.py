"""Functions with a gradient of their own, on TensorFlow and JAX."""

import functools
from collections.abc import Callable
from typing import Any

import keras


def with_gradient(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function with the results of `forward`, differentiated by `backward`.

    Nothing is compiled here: both become part of the program that is being traced.

    Args:
        forward: takes nests of tensors, returns a nest of results and what the gradient keeps.
        backward: takes the same nests, what was kept, and the gradients of the results; returns
            those of the nests.
    """
    if keras.backend.backend() == "jax":
        return _with_jax(forward, backward)
    return _with_tensorflow(forward, backward)


def _with_jax(forward, backward):
    import jax

    def push(*arguments):
        results, kept = forward(*arguments)
        return results, (arguments, kept)

    def pull(residuals, upstream):
        return backward(*residuals[0], residuals[1], upstream)

    differentiated = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    differentiated.defvjp(push, pull)
    return differentiated


def _with_tensorflow(forward, backward):
    import tensorflow as tf

    @tf.custom_gradient
    def differentiated(*arguments):
        results, kept = forward(*arguments)

        def gradient(*upstream):
            upstream = tf.nest.pack_sequence_as(results, upstream)
            return tf.nest.flatten(backward(*arguments, kept, upstream))

        return results, gradient

    return differentiated


def pull_back(function: Callable[..., Any], arguments: Any, upstream: Any, **fixed: Any) -> Any:
    """Gradients of `function(*arguments, **fixed)`, by the backend's own differentiation."""
    function = functools.partial(function, **fixed)
    if keras.backend.backend() == "jax":
        import jax

        return jax.vjp(function, *arguments)[1](upstream)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(arguments)
        results = function(*arguments)
    zeros = tf.UnconnectedGradients.ZERO
    return tape.gradient(results, arguments, upstream, unconnected_gradients=zeros)
