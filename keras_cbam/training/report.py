"""What the report of every run says, whatever the task."""

import json
import platform
import sys

import keras
import numpy as np

from keras_cbam.cost import count_parameters


def describe(model, arguments, training_seconds):
    """The part of a report that is not on data and results.

    Args:
        model: the trained `keras.Model`.
        arguments: `RunArguments`.
        training_seconds: float.
    """
    return {
        "parameters": {"trainable": count_parameters(model), "total": model.count_params()},
        "seconds": {"training": round(training_seconds, 1)},
        "versions": versions(),
        # As they stand in the file: what JSON has no form for, as text.
        "arguments": json.loads(json.dumps(vars(arguments), default=str)),
    }


def versions():
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "keras_cbam": sys.modules["keras_cbam"].__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }
