"""Functions with a gradient written by hand, which keeps only their arguments and results.

With TensorFlow a compiled function hands everything that its gradient needs to the outside, copies
of its own arguments included. So the two halves are compiled one by one here: the first records
what is to be kept; the second, which has the arguments anyway, runs the same code with it.
"""

import contextlib
import contextvars

import keras

_record = contextvars.ContextVar("record", default=None)
_replay = contextvars.ContextVar("replay", default=None)


@contextlib.contextmanager
def recording():
    """Gives a list, to which this block adds what its gradient is to keep: tuples of tensors."""
    recorded = []
    token = _record.set(recorded)
    try:
        yield recorded
    finally:
        _record.reset(token)


@contextlib.contextmanager
def replaying(recorded):
    """In this block those tuples are not computed but taken from the list."""
    token = _replay.set(iter(recorded))
    try:
        yield
    finally:
        _replay.reset(token)


def remember(tensor):
    """The tensor, which the gradient keeps instead of computing it again."""
    if _record.get() is not None:
        _record.get().append((tensor,))
    if _replay.get() is not None:
        return _with_results(next(_replay.get()), lambda _, __, upstream: upstream)(tensor)[0]
    return tensor


def with_gradient(function, gradient, keeps_results=True):
    """`function`, differentiated by `gradient`.

    Args:
        function: takes tensors and returns a tuple of tensors.
        gradient: takes the arguments, the results and the results' upstream gradients, each as a
            tuple, and returns a tuple with the gradient of each argument.
        keeps_results: bool, whether the gradient needs the results; if not, it may be given `None`
            for them. Defaults to `True`.

    Returns:
        Function of the same arguments.
    """
    if keras.backend.backend() == "jax":
        return _with_jax(function, gradient, keeps_results)

    def differentiated(*arguments):
        if _replay.get() is not None:
            results = next(_replay.get()) if keeps_results else function(*arguments)
            return _with_results(results, gradient)(*arguments)
        results = function(*arguments)
        if keeps_results and _record.get() is not None:
            _record.get().append(results)
        return results

    return differentiated


def _with_results(results, gradient):
    """Function that gives the results for any arguments, differentiated by `gradient`."""
    import tensorflow as tf

    @tf.custom_gradient
    def given(*arguments):
        return results, lambda *upstream: gradient(arguments, results, upstream)

    return given


def _with_jax(function, gradient, keeps_results):
    import jax

    def forward(*arguments):
        results = function(*arguments)
        return results, (arguments, results if keeps_results else None)

    def backward(kept, upstream):
        return gradient(*kept, upstream)

    differentiated = jax.custom_vjp(function)
    differentiated.defvjp(forward, backward)
    # One compiled call also where nothing else compiles it.
    return jax.jit(differentiated)
