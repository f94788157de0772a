"""A tiny run of a classifier whose predictions are known, on images whose preprocessing matters."""

import json
import pathlib

import keras
import numpy as np
from PIL import Image

from keras_cbam import CBAM
from keras_cbam.classification.task import ClassificationTask, train_classifier

SIZE = 32
# The frame of each class: the rest of its images is alike, and `center_crop` cuts the frame off.
CLASSES = {"bright": 255, "dark": 0}
# Their mean brightness with the frame.
LEVELS = (0.414, 0.345)


def save_image(path, frame, inside=92):
    """An image of 64 x 48 pixels, of which two rows above and below have the level `frame`."""
    pixels = np.full((48, 64, 3), inside, "uint8")
    pixels[:2] = pixels[-2:] = frame
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def framed_images(root, classes=CLASSES, count=10):
    """A folder with a subfolder of images for each class."""
    for name, frame in classes.items():
        for index in range(count):
            save_image(root / name / f"{index:02}.png", frame, inside=90 + index % 5)
    return root


def cut_short(path):
    """Leaves the header of an image and half of its pixels."""
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[: len(content) // 2])
    return path


def network(levels=LEVELS, size=SIZE, activation="softmax", nested=False):
    """A classifier by mean brightness, with attention that changes nothing."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    mean = keras.initializers.Constant(1 / 3)
    x = keras.layers.Conv2D(3, 1, use_bias=False, kernel_initializer=mean)(x)
    x = CBAM(kernel_size=3, start_as_identity=True, name="attention")(x)
    if nested:
        x = keras.Model(inputs, x, name="backbone")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    dense = keras.layers.Dense(len(levels), activation=activation)
    model = keras.Model(inputs, dense(x))
    levels = 1000 * np.array(levels, "float32")
    dense.set_weights([np.tile(2 * levels / 3, (3, 1)), -(levels**2) / 1000])
    return model


def train(monkeypatch, data, output, **arguments):
    """Trains `network` at a rate that changes nothing."""
    is_nested = arguments.get("recipe") == "fine-tuning"
    monkeypatch.setattr(ClassificationTask, "build", lambda *_: network(nested=is_nested))
    given = {"epochs": 1, "batch_size": 8, "image_size": SIZE, "learning_rate": 1e-7, "verbose": 0}
    return train_classifier(data=data, output=output, **{**given, **arguments})


def write_run(folder, data, model=None, class_names=tuple(CLASSES), **arguments):
    """A run by hand, as the trainer writes it."""
    folder.mkdir(parents=True)
    (model or network()).save(folder / "model.keras")
    given = {"recipe": "default", "data": str(data), "image_size": SIZE, "batch_size": 8}
    told = {"task": "classification", "class_names": list(class_names)}
    told["arguments"] = {**given, **arguments}
    (folder / "arguments.json").write_text(json.dumps(told))
    report = {"task": "classification", "data": {"class_names": list(class_names)}}
    (folder / "report.json").write_text(json.dumps(report))
    return folder
