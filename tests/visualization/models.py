"""Small networks of every kind, and real ones, for the tests of maps and figures."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest

from keras_cbam import CBAM
from tests.checks import randomize

TOOL = pathlib.Path(__file__).parents[3] / "shared" / "tools" / "pretrained_mobilenet_v2.py"


def random_images(count=2, size=(12, 10), channels=3, seed=0):
    shape = (count, *size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def classifier(end="softmax", classes=4, attention=CBAM, size=(12, 10), channels=3, seed=1):
    """Convolutions with attention, and an end of the given kind, with random weights."""
    inputs = keras.Input((*size, channels), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="first")(x)
    if attention:
        x = attention(name="gate_1")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, name="second")(x)
    if attention:
        x = attention(name="gate_2")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    is_inside = end in ("softmax", "sigmoid", None)
    x = keras.layers.Dense(classes, activation=end if is_inside else None, name="scores")(x)
    if end == "layer":
        x = keras.layers.Softmax()(x)
    elif end == "activation":
        x = keras.layers.Activation("linear", dtype="float32")(
            keras.layers.Activation("softmax")(x)
        )
    elif end == "operation":
        x = keras.ops.softmax(x)
    return randomize(keras.Model(inputs, x), seed)


def nested(model):
    """The model as a layer of another one."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(inputs), name="outer")


def chained(base, layers):
    """An object of a new subclass of `keras.Model` or `keras.Layer` that calls them in turn."""

    class Chained(base):
        def __init__(self):
            super().__init__()
            self.inner = layers

        def call(self, inputs):
            for layer in self.inner:
                inputs = layer(inputs)
            return inputs

    return Chained()


def subclassed(model):
    return chained(keras.Model, model.layers[1:])


def sequential(model):
    return keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers[1:]])


KINDS = {"functional": lambda model: model, "nested": nested, "sequential": sequential}


def pretrained():
    """The tool that loads real ImageNet weights; the test is skipped where it is missing."""
    if not TOOL.exists():
        pytest.skip("needs ../shared/tools/pretrained_mobilenet_v2.py")
    pytest.importorskip("skimage.data")
    spec = importlib.util.spec_from_file_location("pretrained_mobilenet_v2", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool
