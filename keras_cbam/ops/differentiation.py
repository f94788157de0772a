"""Functions with a gradient written by hand, which keeps only their arguments and results.

With TensorFlow `keras.ops.custom_gradient` keeps a copy of every argument besides.
"""

import itertools

import keras

_numbers = itertools.count()


def with_gradient(function, gradient):
    """`function`, differentiated by `gradient`.

    Args:
        function: takes tensors and returns a tuple of tensors.
        gradient: takes the arguments, the results and the results' upstream gradients, each as a
            tuple, and returns a tuple with the gradient of each argument.

    Returns:
        Function of the same arguments; with TensorFlow, for use in graphs only.
    """
    if keras.backend.backend() == "jax":
        return _with_jax(function, gradient)
    return _with_tensorflow(function, gradient)


def _with_jax(function, gradient):
    import jax

    def forward(*arguments):
        results = function(*arguments)
        return results, (arguments, results)

    def backward(kept, upstream):
        return gradient(*kept, upstream)

    differentiated = jax.custom_vjp(function)
    differentiated.defvjp(forward, backward)
    # One compiled call also where nothing else compiles it.
    return jax.jit(differentiated)


def _with_tensorflow(function, gradient):
    import tensorflow as tf

    name = f"keras_cbam_{function.__name__}_{next(_numbers)}"

    @tf.RegisterGradient(name)
    def of_call(operation, *upstream):
        return gradient(tuple(operation.inputs), tuple(operation.outputs), upstream)

    traced = tf.function(function, autograph=False)

    def call(*arguments):
        specs = [tf.TensorSpec(argument.shape, argument.dtype) for argument in arguments]
        concrete = traced.get_concrete_function(*specs)
        with tf.compat.v1.get_default_graph().gradient_override_map({"PartitionedCall": name}):
            return tf.raw_ops.PartitionedCall(
                args=arguments, Tout=[output.dtype for output in concrete.outputs], f=concrete
            )

    return call
