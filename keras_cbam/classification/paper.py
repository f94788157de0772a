"""The paper's training: a folder in ImageNet's layout in, a network and its errors out."""

import dataclasses
import os
import time

import keras
import numpy as np

from keras_cbam import models
from keras_cbam.classification.evaluate import classification_report, top_errors
from keras_cbam.classification.recipes import fit_by_steps
from keras_cbam.data.imagenet import find_training_files
from keras_cbam.data.streaming import picture_streams
from keras_cbam.errors import near_names, positive_integer, printable
from keras_cbam.training.arguments import (
    validate_attention,
    validate_precision,
    validate_recipe,
    validate_running,
)
from keras_cbam.training.devices import distributed, find_devices
from keras_cbam.training.report import (
    SAMPLE_SIZE,
    TrainingRun,
    check_finite,
    describe,
    digest,
    dtype_policy,
    spread,
    start_progress,
    with_weights_of,
    write_run,
    written_to,
)
from keras_cbam.training.run_folder import output_folder

NETWORKS = (
    *("ResNet18", "ResNet34", "ResNet50", "ResNet101", "WideResNet18"),
    *("ResNeXt50", "ResNeXt101", "MobileNet"),
)
# Arguments of the networks that the recipe sets.
SET_BY_THE_RECIPE = {
    *("attention", "num_classes", "include_top", "input_shape", "include_preprocessing"),
    *("pooling", "classifier_activation"),
}


def train_paper_network(
    data,
    backbone="ResNet50",
    attention="cbam",
    image_size=224,
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    decay_epochs=30,
    weight_decay=1e-4,
    precision="float32",
    xla=False,
    flip=True,
    seed=0,
    output=None,
    overwrite=False,
    strict=False,
    verbose="auto",
    backbone_arguments=None,
    resume=False,
    checkpoint_steps=None,
    distribute=None,
):
    """Trains a network of the CBAM paper as the paper trains on ImageNet.

    Stochastic gradient descent with momentum 0.9, from random weights. The rate is divided by ten
    after every `decay_epochs` epochs. Weight decay is PyTorch's: a part of the gradient of every
    trainable variable, see `coupled_weight_decay`; the `loss` and `val_loss` of the history
    include its regularizer.

    Training pictures are random parts, 0.08 to 1 of the area and 3/4 to 4/3 wide by high, resized
    by antialiased bilinear filtering and flipped left to right with probability one half. Test
    pictures are centre crops after the shorter side is resized to `image_size * 256 / 224`.

    Pictures are read from the disk as they are needed. At the start every file is opened, so that
    what is no picture is found at once; one that is damaged further on ends the training when it
    is decoded. Nothing is skipped or replaced. Calls `keras.utils.set_random_seed(seed)`: the same
    arguments give the same order and crops, and on one machine the same weights.

    Args:
        data: path of a folder with `train` and `val` (or else `test`), each with one subfolder of
            JPEG, PNG, BMP or GIF pictures a class. Classes are in the order of their sorted names.
        backbone: string, name of a network of `keras_cbam.models`, `"ResNet18"`, `"WideResNet18"`,
            `"ResNeXt50"` or `"MobileNet"` for example. Defaults to `"ResNet50"`.
        attention: see `ResNet`, or `None` for the plain network. Defaults to `"cbam"`.
        image_size: int, side of the square pictures in pixels. Defaults to `224`.
        epochs: int. Defaults to `90`.
        batch_size: int. Defaults to `256`.
        learning_rate: float, the rate of the first epochs. Defaults to `0.1`.
        decay_epochs: int, epochs after which the rate is divided by ten. Defaults to `30`.
        weight_decay: float, not negative. Defaults to `1e-4`.
        precision: see `train_classifier`. Defaults to `"float32"`.
        xla: see `train_classifier`. Defaults to `False`.
        flip: see `train_classifier`. Defaults to `True`.
        seed: int, of the initial weights, the order of the pictures, the crops and flips.
            Defaults to `0`.
        output: see `train_classifier`. Defaults to `None`.
        overwrite: see `train_classifier`. Defaults to `False`.
        strict: bool, whether a file that is not named as a picture is an error; else it is left
            out and reported. Defaults to `False`.
        verbose: see `keras.Model.fit`. Defaults to `"auto"`.
        backbone_arguments: dict of further arguments of the network, `{"alpha": 0.7}` for example.
            Defaults to `None`.
        resume: see `train_classifier`. Defaults to `False`.
        checkpoint_steps: see `train_classifier`. Defaults to `None`.
        distribute: see `train_classifier`. Defaults to `None`.

    Returns:
        A `TrainingRun`. Its report has `"top_1_error"` and `"top_5_error"` in percent, see
        `top_errors`.

    Raises:
        ValueError: if an argument is outside its range or names nothing known.
        DataError: if the data cannot be used, or a picture cannot be read.
        TrainingError, FileExistsError, OSError, ImportError: see `train_classifier`.

    Example:

    >>> run = train_paper_network("imagenet", "ResNet50", output="run")
    >>> run.report["top_1_error"]

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), section 4.2, and section 4 on
      ImageNet-1K classification
    """
    arguments = dict(locals())
    arguments["backbone_arguments"] = backbone_arguments or {}
    start = time.perf_counter()
    _validate(**arguments)
    data = os.fspath(data)
    devices = find_devices(distribute)
    with output_folder(output, overwrite, resume, is_main=not devices.process) as folders:
        train, test, skipped = find_training_files(data, strict)
        names = [os.path.relpath(path, data) for path in train.paths]
        progress = start_progress(
            folders, arguments, train, digest(train.labels, np.array(names), test.labels), devices
        )

        def build():
            keras.utils.set_random_seed(seed)
            with dtype_policy(precision):
                return _build(len(train.class_names), **arguments)

        with picture_streams(image_size) as streams, distributed(distribute):
            model = build()
            history = fit_by_steps(
                model,
                lambda epoch, first_step: streams.training(
                    train, batch_size, seed, epoch, flip, first_step, devices
                ),
                streams.evaluation(test, batch_size, devices),
                epochs=epochs,
                learning_rate=learning_rate,
                decay_epochs=decay_epochs,
                weight_decay=weight_decay,
                xla=xla,
                verbose=0 if devices.process else verbose,
                progress=progress,
            )
        if distribute is not None:
            model = with_weights_of(model, build())
        seconds = progress.trained_seconds
        with picture_streams(image_size) as streams:
            probabilities = model.predict(streams.evaluation(test, batch_size), verbose=0)
        check_finite(probabilities, learning_rate)
        report = {
            **top_errors(test.labels, probabilities),
            **classification_report(test.labels, probabilities, test.class_names),
            "data": {
                "name": printable(os.path.basename(os.path.abspath(data))),
                "training_pictures": len(train.labels),
                "test_pictures": len(test.labels),
                "class_names": train.class_names,
                "skipped": skipped,
            },
            **describe(model, arguments, seconds),
        }
        shown = spread(len(test.labels), SAMPLE_SIZE)
        few = dataclasses.replace(
            test, paths=[test.paths[index] for index in shown], labels=test.labels[shown]
        )
        with picture_streams(image_size) as streams:
            sample, _ = next(iter(streams.evaluation(few, SAMPLE_SIZE).as_numpy_iterator()))
        write_run(folders.artefacts, model, history, report, sample, start - progress.seconds)
    return TrainingRun(model, history, report, written_to(output, devices))


def _validate(**arguments):
    if not isinstance(arguments["data"], (str, os.PathLike)):
        raise ValueError(
            "`data` must be the path of a folder in ImageNet's layout: the paper's recipe has no "
            f"data of its own. Received: data={arguments['data']!r}"
        )
    for name in ("image_size", "decay_epochs"):
        positive_integer(name, arguments[name])
    validate_recipe(freeze_epochs=0, **arguments)
    validate_precision(arguments["precision"])
    validate_running(**arguments)
    backbone = arguments["backbone"]
    if backbone not in NETWORKS:
        raise ValueError(
            f"Unknown network of the CBAM paper. {near_names(backbone, NETWORKS)} "
            f"Received: backbone={backbone!r}"
        )
    validate_attention(arguments["attention"], start_as_identity=False)
    given = SET_BY_THE_RECIPE.intersection(arguments["backbone_arguments"])
    if given:
        raise ValueError(
            f"`backbone_arguments` must not hold what the recipe sets: {', '.join(sorted(given))}. "
            f"Received: backbone_arguments={arguments['backbone_arguments']}"
        )


def _build(num_classes, backbone, attention, image_size, backbone_arguments, **_):
    try:
        return getattr(models, backbone)(
            attention=attention,
            num_classes=num_classes,
            input_shape=(image_size, image_size, 3),
            **backbone_arguments,
        )
    except TypeError as error:
        raise ValueError(
            f"{backbone} does not take these arguments: {error}. "
            f"Received: backbone_arguments={backbone_arguments}"
        ) from error
