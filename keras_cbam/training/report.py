"""What every training run has: a dtype policy, a report, its artefacts, and what is given back."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import time
import warnings

import keras
import numpy as np

from keras_cbam.cost import count_parameters
from keras_cbam.errors import DivergenceError, WeightsError
from keras_cbam.training.devices import check_same_in_all_processes
from keras_cbam.training.progress import Progress
from keras_cbam.training.run_folder import versions, write_artefacts, write_report
from keras_cbam.visualization.attention_maps import has_attention
from keras_cbam.visualization.figures import (
    compare_grad_cam,
    plot_attention,
    plot_confusion_matrix,
    plot_learning_curves,
)

# Test pictures on which the reloaded artefacts are compared with the model in memory.
SAMPLE_SIZE = 64
# Training pictures by which the data of a run that goes on are known again.
DIGEST_SIZE = 256
# Of the sample, those in the figures.
PICTURES_DRAWN = 3


# Arguments that may be others when a run goes on.
FREE_TO_CHANGE = {
    *("data", "output", "overwrite", "verbose", "resume", "checkpoint_steps", "cache"),
}


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What a training gives back.

    Attributes:
        model: the trained `keras.Model`, pixels in, probabilities out.
        history: dict of lists, one number for each epoch.
        report: dict, the contents of `report.json`.
        output: `pathlib.Path` of the folder with the artefacts, or `None` if none were written.
    """

    model: keras.Model
    history: dict
    report: dict
    output: object = None


def digest(*arrays):
    """A string that is another one for other arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def start_progress(folders, arguments, data, data_digest, devices):
    """The `Progress` of a run: from its last checkpoint with `arguments["resume"]`.

    Args:
        folders: `RunFolders`.
        arguments: dict, all arguments of the run.
        data: what has the `class_names` of the training.
        data_digest: string, see `digest`.
        devices: `Devices`.

    Returns:
        `Progress`.

    Raises:
        ValueError, DataError: if the run cannot go on with these arguments, data and devices.
    """
    identity = {
        "arguments": {
            name: value for name, value in arguments.items() if name not in FREE_TO_CHANGE
        },
        "machine": {"backend": keras.backend.backend(), "devices": devices.count},
        "data": {"class names": data.class_names, "digest of the pictures": data_digest},
    }
    progress = Progress(
        folders.checkpoints,
        every=arguments["checkpoint_steps"],
        identity=identity,
        seed=arguments["seed"],
        is_writing=not devices.process,
    )
    if arguments["resume"]:
        progress.resume()
        check_same_in_all_processes([progress.epoch, progress.step], devices)
        for path, reason in progress.damaged.items():
            warnings.warn(f"A damaged checkpoint is passed over: {path}: {reason}", stacklevel=2)
        if not progress.epoch and not progress.step:
            warnings.warn("There is nothing to resume: the training begins.", stacklevel=2)
    return progress


def with_weights_of(trained, model):
    """The model, which has no share in the devices of the trained one, with its weights."""
    model.set_weights(trained.get_weights())
    return model


def written_to(output, devices):
    return None if output is None or devices.process else pathlib.Path(output)


@contextlib.contextmanager
def dtype_policy(name):
    """Within the block, new layers have the dtype policy of that name."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def downloading_weights():
    """Within the block, a download that fails is a `WeightsError`."""
    try:
        yield
    except Exception as error:
        # Keras raises a bare Exception.
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(f"The ImageNet weights cannot be downloaded: {error}") from error


def check_finite(numbers, learning_rate, what="probabilities"):
    """Raises DivergenceError if the training diverged."""
    if not np.isfinite(numbers).all():
        raise DivergenceError(
            f"The training diverged: the {what} are not finite. Lower the learning rate. "
            f"Received: learning_rate={learning_rate}"
        )


def describe(model, arguments, training_seconds):
    """The part of a report that is not on data and results."""
    return {
        "parameters": {
            "trainable": count_parameters(model),
            "total": model.count_params(),
        },
        "seconds": {"training": round(training_seconds, 1)},
        "versions": versions(),
        # As they stand in the file: what JSON has no form for, as text.
        "arguments": json.loads(json.dumps(arguments, default=str)),
    }


def spread(count, number):
    """At most `number` indices below `count`, evenly far from each other."""
    return np.unique(np.linspace(0, count - 1, min(number, count)).round().astype(int))


def write_figures(folder, model, history, report, sample):
    """Learning curves, confusion matrix, and what the model attends to in some test pictures.

    Args:
        folder: `pathlib.Path` of an existing folder.
        model: the trained `keras.Model`.
        history: dict of lists, one number for each epoch.
        report: dict with the class names and, for few enough classes, the confusion matrix.
        sample: uint8 array of test pictures, `(batch,) + model.input_shape[1:]`.
    """
    names = report["data"]["class_names"]
    pictures = sample[spread(len(sample), PICTURES_DRAWN)]
    figures = {
        "learning_curves.png": plot_learning_curves(history),
        "grad_cam.png": compare_grad_cam({"Grad-CAM": model}, pictures, class_names=names),
    }
    if "confusion_matrix" in report:
        figures["confusion_matrix.png"] = plot_confusion_matrix(report["confusion_matrix"], names)
    if has_attention(model):
        figures["attention.png"] = plot_attention(model, pictures)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=100)


def write_run(folder, model, history, report, sample, start):
    """Writes the artefacts and, completed by their check and the time, the report.

    Args:
        folder: `pathlib.Path` of an existing folder, or `None` to write nothing.
        model: see `write_artefacts`.
        history: see `write_artefacts`.
        report: dict, which is added to.
        sample: see `write_artefacts`.
        start: float, `time.perf_counter()` at the start of the run.

    Raises:
        OSError, TrainingError: see `write_artefacts`.
    """
    if folder is None:
        return
    write_figures(folder, model, history, report, sample)
    report["largest_difference_after_reload"] = write_artefacts(folder, model, history, sample)
    report["seconds"]["total"] = round(time.perf_counter() - start, 1)
    write_report(folder, report)
