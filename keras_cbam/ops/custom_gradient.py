"""A function and its gradient as one operation of the backend that differentiates."""

import keras


def with_gradient(forward, backward):
    """`forward`, as a function that returns the results and is differentiated by `backward`.

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
        arguments, kept = residuals
        return backward(*arguments, kept, upstream)

    differentiated = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    differentiated.defvjp(push, pull)
    return differentiated


def _with_tensorflow(forward, backward):
    import tensorflow as tf

    flatten, pack = tf.nest.flatten, tf.nest.pack_sequence_as

    def function(*arguments):
        structure = []

        @tf.custom_gradient
        def differentiated(*flat):
            packed = pack(arguments, flat)
            results, kept = forward(*packed)
            structure.append(results)

            def gradient(*upstream):
                return flatten(backward(*packed, kept, pack(results, upstream)))

            return flatten(results), gradient

        flat = differentiated(*flatten(arguments))
        return pack(structure[0], flat)

    return function


def pull_back(function, arguments, upstream):
    """Gradients of the arguments of a function of tensors, by the backend's own differentiation."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.vjp(function, *arguments)[1](upstream)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(arguments)
        results = function(*arguments)
    return tape.gradient(results, arguments, upstream, unconnected_gradients="zero")
