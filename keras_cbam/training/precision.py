"""The dtype of a network, and how far apart two computations in it may be."""

import keras

from keras_cbam.serving import agreement


def allowed_difference(model):
    """The largest difference of probabilities between the model in memory and a reloaded one."""
    return agreement.allowed_difference(model, in_float32=1e-5)


def jit_compile(xla):
    """What `xla` is to `keras.Model.compile`: JAX compiles in any case."""
    if xla and keras.backend.backend() == "torch":
        raise ValueError(f"`xla` is not for the backend 'torch'. Received: xla={xla}")
    return xla or keras.backend.backend() == "jax"
