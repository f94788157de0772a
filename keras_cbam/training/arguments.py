"""The arguments of a training, checked before anything is loaded."""

import math
import numbers
import os

import keras

from keras_cbam.applications import find_application
from keras_cbam.attention import attention_layer
from keras_cbam.errors import WeightsError, positive_integer
from keras_cbam.training.devices import validate_distribution

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

# The arguments of `fit_classifier`.
RECIPE = (
    "epochs",
    "batch_size",
    "learning_rate",
    "freeze_epochs",
    "weight_decay",
    "xla",
    "flip",
    "seed",
)


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _at_least_0(name, value):
    if not _is_number(value) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(f"`{name}` must be an integer of at least 0. Received: {name}={value!r}")


def validate_seed(seed):
    """Raises ValueError unless it is an integer that NumPy and Keras take."""
    _at_least_0("seed", seed)
    if seed >= 2**32:
        raise ValueError(f"`seed` must be below 2**32. Received: seed={seed!r}")


def validate_recipe(epochs, batch_size, learning_rate, freeze_epochs, weight_decay, seed, **_):
    """Raises ValueError if one is outside its range."""
    positive_integer("epochs", epochs)
    positive_integer("batch_size", batch_size)
    if not _is_number(learning_rate) or not 0 < learning_rate < math.inf:
        raise ValueError(
            f"`learning_rate` must be a positive number. Received: learning_rate={learning_rate!r}"
        )
    if not _is_number(weight_decay) or not 0 <= weight_decay < math.inf:
        raise ValueError(
            "`weight_decay` must be a number of at least 0. "
            f"Received: weight_decay={weight_decay!r}"
        )
    _at_least_0("freeze_epochs", freeze_epochs)
    validate_seed(seed)
    if freeze_epochs > epochs:
        raise ValueError(
            "`freeze_epochs` must be at most `epochs`, which include them. "
            f"Received: freeze_epochs={freeze_epochs}, epochs={epochs}"
        )


def jit_compile(xla):
    """What `xla` is to `keras.Model.compile`: JAX compiles in any case."""
    return xla or keras.backend.backend() == "jax"


def validate_precision(precision):
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {PRECISIONS}. Received: precision={precision!r}"
        )


def validate_running(output, resume, checkpoint_steps, distribute, batch_size, xla, **_):
    """Raises ValueError if how a training is to run cannot be."""
    if xla and keras.backend.backend() == "torch":
        raise ValueError(f"`xla` is not for the backend 'torch'. Received: xla={xla}")
    if checkpoint_steps is not None:
        positive_integer("checkpoint_steps", checkpoint_steps)
    for name, value in (("resume", resume), ("checkpoint_steps", checkpoint_steps)):
        if value and output is None:
            raise ValueError(
                f"`{name}` needs `output`, beside which the checkpoints are. "
                f"Received: {name}={value}, output=None"
            )
    validate_distribution(distribute, batch_size)


def validate_attention(attention, start_as_identity):
    if attention is not None and not callable(attention):
        attention_layer(attention, "site", start_as_identity)


def validate(**arguments):
    """Raises ValueError, or WeightsError for the weights, if one is outside its range."""
    positive_integer("image_size", arguments["image_size"])
    if arguments["image_size"] < 32:
        raise ValueError(
            "`image_size` must be at least 32, the smallest that the models of "
            f"keras.applications take. Received: image_size={arguments['image_size']}"
        )
    validate_recipe(**{name: arguments[name] for name in RECIPE})
    freeze = arguments["freeze_epochs"]
    if freeze and arguments["weights"] is None:
        raise ValueError(
            "`freeze_epochs` needs `weights`: a backbone with random weights has nothing to keep. "
            f"Received: freeze_epochs={freeze}, weights=None"
        )
    validate_precision(arguments["precision"])
    validate_running(**arguments)
    find_application(arguments["backbone"])
    validate_attention(arguments["attention"], start_as_identity=True)
    weights = arguments["weights"]
    if weights is not None and weights != "imagenet" and not os.path.isfile(weights):
        raise WeightsError(f"No such weights file: {str(weights)!r}.")
