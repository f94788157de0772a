"""Small models that the tests of insertion and removal share."""

import keras
import numpy as np
from keras import ops

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")


def conv(name, **arguments):
    return keras.layers.Conv2D(4, 3, padding="same", name=name, **arguments)


def residual_model(**arguments):
    inputs = keras.Input((8, 8, 4), name="images")
    x = conv("a", **arguments)(inputs)
    x = keras.layers.BatchNormalization(name="b", **arguments)(x)
    outputs = keras.layers.Add(name="add", **arguments)([inputs, x])
    return randomized(keras.Model(inputs, outputs, name="residual"))


def randomized(model):
    generator = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(generator.uniform(0.1, 0.9, weight.shape))
    return model


def call(model, images=IMAGES, **arguments):
    return ops.convert_to_numpy(model(images, **arguments))


def nested_model():
    inner = residual_model()
    sequential = keras.Sequential([keras.Input((8, 8, 4)), conv("c"), inner], name="sequential")
    inputs = keras.Input((8, 8, 4))
    x = sequential(inputs)
    return keras.Model(inputs, [keras.layers.GlobalAveragePooling2D()(x), inner(x)])
