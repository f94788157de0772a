"""A tiny classifier with attention, and images for it."""

import keras
import numpy as np

from keras_cbam import BAM, CBAM
from tests.checks import randomize

SIZE = 16


def images(count=12, size=SIZE):
    """Smooth images of every brightness."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 4, 4, 3))
    return coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2).astype("uint8")


def classifier(policy="float32", activation="softmax", classes=5, seed=1, end_dtype="float32"):
    """Pixels in [0, 255] to probabilities, or other scores."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255, dtype=policy)(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu", dtype=policy)(x)
    x = CBAM(start_as_identity=True, kernel_size=3, dtype=policy)(x)
    x = keras.layers.Conv2D(8, 3, strides=2, dtype=policy)(x)
    x = BAM(dilation_rate=1, dtype=policy)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=policy)(x)
    x = keras.layers.Dense(classes, activation=activation, dtype=end_dtype)(x)
    return randomize(keras.Model(inputs, x), seed)


def predictions(model, images):
    return keras.ops.convert_to_numpy(model.predict(images, verbose=0)).astype("float32")
