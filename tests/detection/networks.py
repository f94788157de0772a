"""Small networks and data that the tests of detection share."""

import keras
import numpy as np

from keras_cbam.detection import SSD, detection_backbone

IMAGES = np.random.default_rng(0).uniform(0, 255, size=(2, 64, 64, 3)).astype("float32")
BOXES = {
    "boxes": np.array(
        [[[8, 8, 40, 40], [20, 4, 60, 30]], [[0, 0, 64, 32], [-1, -1, -1, -1]]], "float32"
    ),
    "classes": np.array([[0, 1], [1, -1]], "float32"),
}


def strided(x, name, filters=4):
    """A convolution of stride 2 and one of stride 1, the latter with batch normalization."""
    x = keras.layers.Conv2D(filters, 3, 2, padding="same", name=f"{name}_down")(x)
    x = keras.layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def strided_model(input_shape=(64, 64, 3), depth=5):
    """A network with one stage for each stride, and a classifier."""
    x = inputs = keras.Input(input_shape, name="pixels")
    for level in range(1, depth + 1):
        x = strided(x, f"stage{level}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="classes")(x), name="strided")


def level_names(backbone):
    """`{"P3": name of the layer that computes it, ...}` of a feature pyramid."""
    layers = {level: t._keras_history.operation for level, t in backbone.pyramid_outputs.items()}
    assert all(isinstance(layer, keras.layers.Identity) for layer in layers.values())
    return {level: one.input._keras_history.operation.name for level, one in layers.items()}


def tensors(model, names, images=IMAGES):
    """The outputs of the layers of these names, as arrays."""
    outputs = [model.get_layer(name).output for name in names]
    return [np.asarray(x) for x in keras.Model(model.input, outputs)(images)]


def tiny_detector(detector, num_classes, image_size, backbone, attention, weights=None):
    """In the place of `build_detector`: an SSD of two feature maps and few variables."""
    x = inputs = keras.Input((image_size, image_size, 3), name="pixels")
    for level in range(1, 4):
        x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name=f"level{level}")(x)
    network = detection_backbone(keras.Model(inputs, x), (2, 3))
    return SSD(network, num_classes, attention, extra_filters=())
