"""The dtype of a network, and how far apart two computations in it may be."""

import keras

from keras_cbam._compat import inner_layers

# Largest difference of probabilities between the model in memory and a reloaded one.
TOLERANCE = {"float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}


def allowed_difference(model):
    """The largest difference of probabilities that the model's dtype policies allow."""
    policies = {layer.dtype_policy.name for layer in inner_layers(model)}
    return max(TOLERANCE.get(policy, 0) for policy in policies)


def jit_compile(xla):
    """What `xla` is to `keras.Model.compile`: JAX compiles in any case."""
    if xla and keras.backend.backend() == "torch":
        raise ValueError(f"`xla` is not for the backend 'torch'. Received: xla={xla}")
    return xla or keras.backend.backend() == "jax"
