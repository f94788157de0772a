"""The sequence of a run, whatever its task: what may fail comes after the model is saved."""

import contextlib
import dataclasses
import json
import pathlib
import platform
import sys
import time
import typing
import warnings

import keras
import numpy as np

from keras_cbam.cost import count_parameters
from keras_cbam.data.batches import reading
from keras_cbam.data.order import ONE_DEVICE, Devices
from keras_cbam.errors import DivergenceError, first_line, library
from keras_cbam.training.check import check_reloaded
from keras_cbam.training.devices import (
    check_same_in_all_processes,
    distributed,
    find_devices,
    validate_distribution,
)
from keras_cbam.training.progress import Progress, announce, finite_losses
from keras_cbam.training.run_folder import BEST, MODEL, REPORT, TENSORBOARD, RunFolder
from keras_cbam.training.task import Task
from keras_cbam.visualization.panels import figure_class

# The modules whose versions are in the report: all are loaded.
VERSIONS = ("keras_cbam", "keras", "tensorflow", "numpy")


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training returns.

    Attributes:
        model: the trained `keras.Model`.
        data: what it was trained and measured on.
        history: dict of lists, one number for each epoch.
        report: dict, the contents of `report.json`; `"problems"` names what failed afterwards.
        output: `pathlib.Path` of the folder of the run, or `None` if none was written.
    """

    model: keras.Model
    data: object
    history: dict
    report: dict
    output: pathlib.Path | None = None


def train(task: Task) -> Run:
    """Trains the model of a `Task`, saves it, and then measures, draws and checks it.

    Returns:
        `Run`.

    Raises:
        ValueError: if an argument is outside its range or names nothing known.
        DataError, WeightsError: if the data or the weights cannot be used.
        DivergenceError: if the training diverged.
        TrainingError: if there is nothing to resume, or its data are others.
        FileExistsError: if the output folder holds anything but a run to replace or to resume.
        TrainingStopped: if a signal ended the run; a `KeyboardInterrupt`.
        ImportError, OSError: if a library is missing, or the model cannot be written.
    """
    arguments = task.arguments
    validate_distribution(arguments.distribute, arguments.batch_size)
    devices = find_devices(arguments.distribute)
    with RunFolder(arguments.output, task, is_writing=not devices.process) as folder:
        folder.check()
        if folder.is_writing:
            # What would otherwise be missing after hours.
            figure_class()
            if arguments.tensorboard:
                library("tensorboard", "tensorboard")
        return _train(task, folder, devices)


def _train(task, folder, devices):
    start, arguments = time.perf_counter(), task.arguments
    data = task.load()

    def build():
        keras.utils.set_random_seed(arguments.seed)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(arguments.precision)
        try:
            return task.build(data)
        finally:
            keras.config.set_dtype_policy(before)

    with reading(*data.sources()):
        with distributed(arguments.distribute):
            model = build()
            progress = _start(task, data, folder, devices)
            history = fit(task, model, data, progress, devices)
        if arguments.distribute is not None:
            # One that has no share in the devices.
            trained, model = model, build()
            model.set_weights(trained.get_weights())
        if arguments.early_stopping is not None and (folder.path / BEST).exists():
            with warnings.catch_warnings():
                # The optimizer's state in the file, which may be of an earlier phase.
                warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
                model.load_weights(folder.path / BEST)
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise DivergenceError("The training diverged: the weights are not finite.")
        report = {
            "task": task.name,
            "problems": {},
            "data": {"class_names": data.class_names},
            "parameters": {"trainable": count_parameters(model), "total": model.count_params()},
            "seconds": {"training": round(progress.trained_seconds, 1)},
            "versions": {
                "python": platform.python_version(),
                "backend": keras.backend.backend(),
                **{name: sys.modules[name].__version__ for name in VERSIONS},
            },
            # What JSON has no form for is in it as text.
            "arguments": json.loads(json.dumps(vars(task.arguments), default=str)),
        }
        folder.remove_results()
        folder.save(MODEL, model.save)
        folder.write_json(REPORT, report)
        _finish(task, model, data, history, report, folder)
    report["seconds"]["total"] = round(time.perf_counter() - start + progress.seconds, 1)
    folder.write_json(REPORT, report)
    for what, sentence in report["problems"].items():
        told = f"The model is trained and saved, but {what} failed: {sentence}"
        warnings.warn(told, stacklevel=4)
    return Run(model, data, history, report, folder.path if folder.is_writing else None)


def fit(
    task: Task,
    model: keras.Model,
    data: typing.Any,
    progress: Progress | None = None,
    devices: Devices = ONE_DEVICE,
) -> dict[str, list[float]]:
    """Trains a built model by the phases of a task.

    Args:
        task: `Task`.
        model: `keras.Model`, as of `task.build`.
        data: as of `task.load`.
        progress: `Progress`. Defaults to `None`: a new one.
        devices: `Devices` that share a batch. Defaults to one.

    Returns:
        Dict of lists, one number for each epoch: `loss`, `val_loss` and the model's metrics.
    """
    arguments = task.arguments
    progress = progress or Progress(arguments)
    verbose = 0 if devices.process else arguments.verbose

    def epoch_batches(epoch=0, first_step=0):
        return task.batches(data, "train", epoch, first_step, devices)

    steps = len(epoch_batches())
    phases = task.phases(model, steps)
    epochs = sum(phase.epochs for phase in phases)
    validation = task.batches(data, "validation", devices=devices)
    measured = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(task.validate(model, data))
    )
    # First, so that the others have its numbers.
    callbacks = [measured, *_callbacks(progress.folder, arguments, progress.history)]
    # Any batch has the shapes: one that is not augmented is read soonest.
    batch = next(validation.take(1).as_numpy_iterator())
    done = 0
    for phase in phases:
        stop = done + phase.epochs
        # The epochs before the last phase are a preparation for it.
        progress.patient_from = done if stop == epochs else None
        with phase.compiled():
            if verbose and not done and progress.epoch < epochs:
                announce(epochs * steps, model)
            progress.restore(model, done, stop, batch)
            progress.fit(model, epochs, epoch_batches, validation, stop, callbacks, verbose)
        done = stop
    return progress.history


def _start(task, data, folder, devices):
    """The `Progress` of a run, at its last checkpoint if it is resumed."""
    identity = {
        "classes": data.class_names,
        "digest of the data": data.identity(),
        "backend": keras.backend.backend(),
        "number of devices": devices.count,
    }
    progress = Progress(task.arguments, folder if folder.path else None, identity)
    if task.arguments.resume is not None:
        progress.resume()
        check_same_in_all_processes([progress.epoch, progress.step], devices)
        if not progress.epoch and not progress.step:
            warnings.warn("There is no checkpoint to resume: the training begins.", stacklevel=3)
    folder.begin(data.class_names)
    return progress


def _callbacks(folder, arguments, history):
    if folder is None or not folder.is_writing:
        return []
    best = keras.callbacks.ModelCheckpoint(
        folder.path / BEST,
        save_best_only=True,
        save_weights_only=True,
        initial_value_threshold=min(finite_losses(history), default=np.inf),
    )
    if not arguments.tensorboard:
        return [best]
    return [best, keras.callbacks.TensorBoard(folder.path / TENSORBOARD, write_graph=False)]


def _finish(task, model, data, history, report, folder):
    """Measures, draws and checks a trained model; what fails is a problem of the report."""

    @contextlib.contextmanager
    def attempt(what):
        try:
            yield
        except Exception as error:
            if not folder.is_writing:
                raise
            report["problems"][what] = f"{first_line(error)}."

    predictions, writers = None, {}
    with attempt("measuring"):
        measured, predictions = task.measure(model, data)
        report.update(measured)
    with attempt("describing the data"):
        report["data"] = data.describe()
    if not folder.is_writing:
        return
    folder.write_json(REPORT, report)
    with attempt("drawing"):
        writers = task.artefacts(model, data, history, report, predictions)
    for name, write in writers.items():
        with attempt(name):
            folder.save(name, write)
    with attempt("check"):
        report["largest_difference_after_reload"] = check_reloaded(task, model, data, folder.path)
