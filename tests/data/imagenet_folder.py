"""Tiny folders in ImageNet's layout, and a network that is quick to compile."""

import pathlib

import keras
import numpy as np
from PIL import Image


def save_image(path, level, size=(48, 40)):
    """An image of one red level; its green rises to the right, its blue downwards."""
    width, height = size
    pixels = np.empty((height, width, 3), "uint8")
    pixels[..., 0] = level
    pixels[..., 1] = np.linspace(0, 255, width)[None, :]
    pixels[..., 2] = np.linspace(0, 255, height)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_imagenet(root, classes=7, train=2, val=1, parts=("train", "val")):
    """`root/train` and `root/val` of that many images a class, of red level `30 * class`."""
    for part, count in zip(parts, (train, val)):
        for label in range(classes):
            for index in range(count):
                save_image(root / part / f"n{label:02}" / f"{index}.png", 30 * label)
    return root


def cut_short(path):
    """Leaves the header of an image and half of its pixels."""
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[: len(content) // 2])
    return path


def one_layer_network(attention, num_classes, input_shape):
    """In the place of a network of `keras_cbam.models`."""
    inputs = keras.Input(input_shape)
    x = keras.layers.AveragePooling2D(4)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dense(num_classes, activation="softmax")(keras.layers.Flatten()(x))
    return keras.Model(inputs, x)
