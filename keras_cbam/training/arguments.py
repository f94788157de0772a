"""The arguments of a training, checked before anything is loaded."""

import math
import numbers
import os

from keras_cbam.applications import find_application
from keras_cbam.attention import attention_layer
from keras_cbam.layers.attention_layer import positive_integer
from keras_cbam.weight_files import WeightsError

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def validate(**arguments):
    """Raises ValueError, or WeightsError for the weights, if one is outside its range."""
    for name in ("epochs", "batch_size", "image_size"):
        positive_integer(name, arguments[name])
    if arguments["image_size"] < 32:
        raise ValueError(
            "`image_size` must be at least 32, the smallest that the models of "
            f"keras.applications take. Received: image_size={arguments['image_size']}"
        )
    rate = arguments["learning_rate"]
    if not isinstance(rate, numbers.Real) or not 0 < rate < math.inf:
        raise ValueError(
            f"`learning_rate` must be a positive number. Received: learning_rate={rate!r}"
        )
    decay = arguments["weight_decay"]
    if not isinstance(decay, numbers.Real) or not 0 <= decay < math.inf:
        raise ValueError(
            f"`weight_decay` must be a number of at least 0. Received: weight_decay={decay!r}"
        )
    freeze = arguments["freeze_epochs"]
    if isinstance(freeze, bool) or not isinstance(freeze, numbers.Integral) or freeze < 0:
        raise ValueError(
            f"`freeze_epochs` must be an integer of at least 0. Received: freeze_epochs={freeze!r}"
        )
    if freeze > arguments["epochs"]:
        raise ValueError(
            "`freeze_epochs` must be at most `epochs`, which include them. "
            f"Received: freeze_epochs={freeze}, epochs={arguments['epochs']}"
        )
    if freeze and arguments["weights"] is None:
        raise ValueError(
            "`freeze_epochs` needs `weights`: a backbone with random weights has nothing to keep. "
            f"Received: freeze_epochs={freeze}, weights=None"
        )
    seed = arguments["seed"]
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be an integer in [0, 2**32). Received: seed={seed!r}")
    if arguments["precision"] not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {PRECISIONS}. "
            f"Received: precision={arguments['precision']!r}"
        )
    find_application(arguments["backbone"])
    attention = arguments["attention"]
    if attention is not None and not callable(attention):
        attention_layer(attention, "site")
    weights = arguments["weights"]
    if weights is not None and weights != "imagenet" and not os.path.isfile(weights):
        raise WeightsError(f"No such weights file: {str(weights)!r}.")
