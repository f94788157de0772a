"""Data set in, trained classifier and its artefacts out."""

import time

import keras

from keras_cbam.applications import attention_classifier
from keras_cbam.classification.evaluate import classification_report
from keras_cbam.classification.task import (
    FINE_TUNING_RATE,
    RATE,
    RATE_FROM_WEIGHTS,
    fit_classifier,
)
from keras_cbam.data.batches import batches
from keras_cbam.data.load import load_data
from keras_cbam.training.arguments import RECIPE, validate
from keras_cbam.training.devices import distributed, find_devices
from keras_cbam.training.report import (
    DIGEST_SIZE,
    SAMPLE_SIZE,
    TrainingRun,
    check_finite,
    describe,
    digest,
    downloading_weights,
    dtype_policy,
    spread,
    start_progress,
    with_weights_of,
    write_run,
    written_to,
)
from keras_cbam.training.run_folder import output_folder

# What `backbone=None` stands for: a network that fits small pictures and two CPU cores, with
# attention at the end of each of its five resolutions.
DEFAULT_BACKBONE = {
    "backbone": "MobileNet",
    "backbone_arguments": {"alpha": 0.5},
    "where": r"conv_pw_(1|3|5|11|13)_relu",
}


def train_classifier(
    data=None,
    backbone=None,
    attention="cbam",
    where=None,
    weights=None,
    image_size=32,
    epochs=9,
    batch_size=128,
    learning_rate=None,
    freeze_epochs=0,
    weight_decay=None,
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
    cache=None,
):
    """Trains an attended image classifier and writes what is needed to use it.

    The recipe is that of `fit_classifier`. Calls `keras.utils.set_random_seed(seed)`: the same
    arguments give the same weights and history again on one machine.

    Args:
        data: `None` for the embedded Fashion-MNIST pictures, a folder, an `.npz` file or the name
            of a `keras.datasets` set, see `load_data`. Defaults to `None`.
        backbone: string, name in `keras.applications`. Defaults to `None`: MobileNet of width
            0.5, attended at the end of each of its five resolutions.
        attention: see `insert_attention`, or `None` for the plain backbone. Defaults to `"cbam"`.
        where: see `insert_attention`. Defaults to `None`: `"auto"` for a named backbone.
        weights: `"imagenet"`, `None` or a file, see `attention_backbone`. Defaults to `None`.
        image_size: int, side of the square pictures in pixels, at least 32. Defaults to `32`.
        epochs: int. Defaults to `9`.
        batch_size: int. Defaults to `128`.
        learning_rate: float, the highest rate of the schedule. Defaults to `None`: 0.15 from
            random weights, 0.01 from given ones; 0.003 with `freeze_epochs`.
        freeze_epochs: int, epochs at the start in which of the backbone only the attention
            trains; the rest is then fine-tuned, see `fit_classifier`. Needs `weights`.
            Defaults to `0`.
        weight_decay: float, not negative, see `fit_classifier`. Defaults to `None`: 0 from random
            weights, 1e-4 from given ones.
        precision: dtype policy: `"float32"`, `"mixed_float16"` or `"mixed_bfloat16"`.
            Defaults to `"float32"`.
        xla: bool, whether the training step is compiled by XLA. Defaults to `False`.
        flip: bool, whether training pictures are flipped left to right at random; not for digits.
            Defaults to `True`.
        seed: int, of the initial weights, the order of the pictures and their augmentation.
            Defaults to `0`.
        output: path of a folder to be made, or `None` to write nothing. It gets `model.keras`,
            `saved_model/`, `history.csv`, `report.json`, and the figures `learning_curves.png`,
            `confusion_matrix.png`, `grad_cam.png` and, with attention, `attention.png`, all at once
            at the end of a run in which nothing failed. Until then `<output>.unfinished` holds a
            checkpoint of every epoch. Ctrl-C or SIGTERM ends the run after the step with a further
            one. Defaults to `None`.
        overwrite: bool, whether an earlier run in `output` is replaced, and an unfinished one begun
            anew. Defaults to `False`.
        strict: bool, whether an unreadable picture is an error; else it is skipped and reported.
            Defaults to `False`.
        verbose: see `keras.Model.fit`. Defaults to `"auto"`.
        backbone_arguments: dict of further arguments of the application, `{"alpha": 0.5}` for
            example. Defaults to `None`.
        resume: bool, whether an unfinished run in `output` goes on from its last checkpoint, with
            the same arguments and data: it ends with the weights that it would have had. Starts at
            the beginning where there is no checkpoint yet. Defaults to `False`.
        checkpoint_steps: int, steps between checkpoints within an epoch. Defaults to `None`: at
            the end of each epoch only.
        distribute: `"mirrored"` or `"data_parallel"`: each batch is shared by all devices, see
            `distributed`. The few pictures of an epoch that cannot be shared equally are left out
            of it. Defaults to `None`: one device.
        cache: path of a folder in which decoded pictures are kept, see `load_data`. Defaults to
            `None`: they are held in memory.

    Returns:
        A `TrainingRun`.

    Raises:
        ValueError: if an argument is outside its range or names nothing known.
        DataError: if the data cannot be used.
        WeightsError: if the weights file cannot be used.
        TrainingError: if the training diverged, or a saved model predicts otherwise than the
            model in memory.
        FileExistsError: if `output` is not empty; with `overwrite=True`, if it holds anything
            that is not of a run; or if it has an unfinished run that is not to be resumed.
        TrainingStopped: if the run was ended by a signal; a `KeyboardInterrupt`.
        OSError: if the artefacts cannot be written.
        ImportError: if there is an `output` but no Matplotlib: `pip install keras_cbam[plot]`.

    Example:

    >>> run = train_classifier(epochs=1, output="run")
    >>> run.report["accuracy"]
    """
    arguments = dict(locals())
    start = time.perf_counter()
    if backbone is None:
        arguments.update(
            backbone=DEFAULT_BACKBONE["backbone"],
            backbone_arguments=backbone_arguments or DEFAULT_BACKBONE["backbone_arguments"],
        )
        if where is None:
            arguments["where"] = DEFAULT_BACKBONE["where"]
    arguments["backbone_arguments"] = arguments["backbone_arguments"] or {}
    if arguments["where"] is None:
        arguments["where"] = "auto"
    if learning_rate is None:
        if freeze_epochs:
            arguments["learning_rate"] = FINE_TUNING_RATE
        else:
            arguments["learning_rate"] = RATE if weights is None else RATE_FROM_WEIGHTS
    if weight_decay is None:
        arguments["weight_decay"] = 0.0 if weights is None else 1e-4
    validate(**arguments)
    devices = find_devices(distribute)
    with output_folder(output, overwrite, resume, is_main=not devices.process) as folders:
        data_set = load_data(data, image_size, seed=seed, strict=strict, cache=cache)
        labels = data_set.train_labels
        some = data_set.train_images[spread(len(labels), DIGEST_SIZE)]
        known_by = digest(labels, some, data_set.test_labels)
        progress = start_progress(folders, arguments, data_set, known_by, devices)

        def build():
            keras.utils.set_random_seed(seed)
            with dtype_policy(precision):
                return _build(data_set, arguments)

        with distributed(distribute):
            model = build()
            history = fit_classifier(
                model,
                data_set,
                verbose=0 if devices.process else verbose,
                progress=progress,
                devices=devices,
                **{name: arguments[name] for name in RECIPE},
            )
        if distribute is not None:
            model = with_weights_of(model, build())
        seconds = progress.trained_seconds
        probabilities = model.predict(
            batches(data_set.test_images, data_set.test_labels, batch_size), verbose=0
        )
        check_finite(probabilities, arguments["learning_rate"])
        report = {
            **classification_report(data_set.test_labels, probabilities, data_set.class_names),
            "data": {
                "name": data_set.name,
                "training_pictures": len(data_set.train_labels),
                "test_pictures": len(data_set.test_labels),
                "class_names": data_set.class_names,
                "skipped": data_set.skipped,
            },
            **describe(model, arguments, seconds),
        }
        sample = data_set.test_images[spread(len(data_set.test_labels), SAMPLE_SIZE)]
        write_run(folders.artefacts, model, history, report, sample, start - progress.seconds)
    return TrainingRun(model, history, report, written_to(output, devices))


def _build(data_set, arguments):
    weights = arguments["weights"]
    try:
        with downloading_weights():
            model = attention_classifier(
                arguments["backbone"],
                num_classes=len(data_set.class_names),
                attention=arguments["attention"],
                where=arguments["where"],
                weights=weights,
                input_shape=data_set.train_images.shape[1:],
                **arguments["backbone_arguments"],
            )
    except TypeError as error:
        raise ValueError(
            f"{arguments['backbone']} does not take these arguments: {error}. "
            f"Received: backbone_arguments={arguments['backbone_arguments']}"
        ) from error
    if weights is None:
        # The statistics of 0.99 lag behind by hundreds of steps: too long for a short training.
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9
    return model
