"""The folders of a training run: written beside its place, checked in a fresh process, moved in."""

import contextlib
import csv
import dataclasses
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np

from keras_cbam.errors import DivergenceError, ExportError, TrainingError
from keras_cbam.serving.saved_model import write_saved_model
from keras_cbam.training.checkpoints import checkpoint_files
from keras_cbam.visualization.panels import figure_class

MODELS = ("model.keras", "saved_model")
FIGURES = ("learning_curves.png", "confusion_matrix.png", "grad_cam.png", "attention.png")
ARTEFACTS = (*MODELS, "history.csv", *FIGURES, "report.json")
# Of a run of `keras_cbam.detection`.
DETECTION_FIGURES = ("learning_curves.png", "detections.png", "precision_recall.png")
DETECTION_ARTEFACTS = ("model.keras", "history.csv", *DETECTION_FIGURES, "report.json")
# What the folder of an unfinished run is called, after that of its output.
UNFINISHED = ".unfinished"
_UNFINISHED_PARTS = {"artefacts", "checkpoints", "earlier", "replaced"}
# Largest difference of probabilities between the model in memory and a reloaded one.
TOLERANCE = {"float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True)
class RunFolders:
    """Where a run writes.

    Attributes:
        artefacts: `pathlib.Path` of the folder for its artefacts, or `None` to write none.
        checkpoints: `pathlib.Path` of the folder of its checkpoints, or `None` to keep none.
    """

    artefacts: object = None
    checkpoints: object = None


@contextlib.contextmanager
def output_folder(output, overwrite=False, resume=False, is_main=True):
    """The folders of a run; the artefacts become `output` when the block ends well.

    Until then they are in a folder beside it, `<output>.unfinished`, with the checkpoints. If the
    block fails, that folder vanishes unless it has a checkpoint to go on from.

    Args:
        output: path of the folder, or `None`.
        overwrite: bool, whether an earlier run in `output` is replaced, and an unfinished one
            begun anew. Defaults to `False`.
        resume: bool, whether an unfinished run goes on; `None` for runs that cannot.
            Defaults to `False`.
        is_main: bool, whether this process writes: of several, one does. Defaults to `True`.

    Yields:
        `RunFolders`.

    Raises:
        FileExistsError: if `output` is not an empty or new folder, nor an earlier run to replace;
            or if there is an unfinished run that is neither to go on nor to be replaced.
        ImportError: without Matplotlib, which draws a run's figures.
        OSError: if a folder cannot be made.
    """
    if output is None:
        yield RunFolders()
        return
    # What comes last must not fail after hours.
    figure_class()
    output = pathlib.Path(output).resolve()
    scratch = output.with_name(f"{output.name}{UNFINISHED}")
    folders = RunFolders(scratch / "artefacts", scratch / "checkpoints")
    if not is_main:
        yield RunFolders(None, folders.checkpoints if folders.checkpoints.is_dir() else None)
        return
    _refuse_to_lose_files(output, overwrite, resume)
    _refuse_to_lose_checkpoints(scratch, overwrite, resume)
    earlier = scratch / "earlier"
    if folders.checkpoints.exists() and not resume:
        # They are lost when the new run has some of its own.
        shutil.rmtree(earlier, ignore_errors=True)
        folders.checkpoints.rename(earlier)
    new = [parent for parent in scratch.parents if not parent.exists()]
    folders.checkpoints.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folders.artefacts, ignore_errors=True)
    folders.artefacts.mkdir()
    try:
        yield folders
        put_in_place(folders.artefacts, output, scratch / "replaced")
    except BaseException as error:
        shutil.rmtree(folders.artefacts, ignore_errors=True)
        if not checkpoint_files(folders.checkpoints) and earlier.exists():
            shutil.rmtree(folders.checkpoints)
            earlier.rename(folders.checkpoints)
        elif isinstance(error, DivergenceError) or not checkpoint_files(folders.checkpoints):
            shutil.rmtree(scratch, ignore_errors=True)
            for parent in new:
                # What others have put there meanwhile stays.
                with contextlib.suppress(OSError):
                    parent.rmdir()
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def put_in_place(new, output, aside):
    """Moves a file or folder to `output`.

    Args:
        new: `pathlib.Path`.
        output: `pathlib.Path` on the same disk.
        aside: `pathlib.Path` to which what was at `output` goes; back again if the move fails.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        if output.exists():
            shutil.rmtree(aside, ignore_errors=True)
            output.rename(aside)
        new.rename(output)
    except BaseException:
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise


def _refuse_to_lose_checkpoints(scratch, overwrite, resume):
    if not scratch.exists():
        return
    names = {path.name for path in scratch.iterdir()} if scratch.is_dir() else {"a file"}
    foreign = sorted(names.difference(_UNFINISHED_PARTS))
    if foreign:
        raise FileExistsError(
            f"{str(scratch)!r}, where an unfinished run would be, holds what is not of a run: "
            f"{', '.join(foreign[:5])}. Choose another --output."
        )
    if not overwrite and not resume:
        raise FileExistsError(
            f"{str(scratch)!r} holds an unfinished run, which "
            f"{'' if resume is None else '--resume continues and '}--overwrite replaces."
        )


def _refuse_to_lose_files(output, overwrite, resume):
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"The output {str(output)!r} is a file. Choose another --output.")
    files = {path.name for path in output.iterdir()}
    foreign = sorted(files.difference(ARTEFACTS, DETECTION_ARTEFACTS))
    if foreign:
        raise FileExistsError(
            f"The output folder {str(output)!r} holds files that are not of a run: "
            f"{', '.join(foreign[:5])}. Choose another --output."
        )
    if files and not overwrite:
        raise FileExistsError(
            f"The output folder {str(output)!r} already holds a run"
            f"{', which is complete' if resume else ''}. "
            "Choose another --output, or pass --overwrite to replace it."
        )


def write_artefacts(folder, model, history, sample):
    """Writes model, SavedModel and history, and checks the models.

    Args:
        folder: `pathlib.Path` of an existing folder.
        model: trained `keras.Model`.
        history: dict of lists, one number for each epoch.
        sample: uint8 array of pictures, `(batch,) + model.input_shape[1:]`.

    Returns:
        `{artefact: largest difference of its predictions from the model's}`, both loaded in a
        fresh process.

    Raises:
        OSError: if a file cannot be written.
        ExportError: if the model cannot be converted.
        TrainingError: if an artefact cannot be loaded or predicts otherwise.
    """
    with writing(folder):
        model.save(folder / "model.keras")
        write_saved_model(model, folder / "saved_model")
        write_history(folder, history)
    return verify(folder, model, sample)


@contextlib.contextmanager
def writing(folder):
    """Within the block, the artefacts of a run are written; raises OSError if they cannot be.

    Args:
        folder: `pathlib.Path` of `RunFolders.artefacts`.
    """
    import tensorflow as tf

    try:
        yield
    except ExportError:
        raise
    except (OSError, tf.errors.OpError, RuntimeError) as error:
        # The writers of TensorFlow and HDF5 have errors of their own for a full disk.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise OSError(f"Writing to {str(folder.parent.parent)!r} failed: {reason}") from error


def write_history(folder, history):
    with open(folder / "history.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*history.values()), 1))


def verify(folder, model, sample):
    """Compares the artefacts, loaded in a fresh process, with the model in memory."""
    arrays = {"sample": sample, "expected": model.predict(sample, verbose=0)}
    differences = reloaded("keras_cbam.training.check", folder, arrays)
    tolerance = allowed_difference(model)
    for artefact, difference in differences.items():
        if not difference <= tolerance:
            raise TrainingError(
                f"The reloaded {artefact} predicts otherwise than the model in memory: "
                f"largest difference {difference:.2g}, allowed {tolerance:.2g}."
            )
    return differences


def reloaded(module, folder, arrays):
    """What a module prints as JSON that is run, in a fresh process, on a run's artefacts.

    Args:
        module: string, its name; its arguments are the folder and an npz file of the arrays.
        folder: `pathlib.Path`.
        arrays: dict of arrays.

    Raises:
        TrainingError: if the process fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "sample.npz"
        np.savez(path, **arrays)
        process = subprocess.run(
            [sys.executable, "-m", module, str(folder), str(path)], capture_output=True, text=True
        )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"The artefacts cannot be loaded in a fresh process: {reason}")
    return json.loads(process.stdout.splitlines()[-1])


def allowed_difference(model):
    """The largest difference of probabilities that the model's dtype policies allow."""
    policies = {layer.dtype_policy.name for layer in model._flatten_layers()}
    return max(TOLERANCE.get(policy, 0) for policy in policies)


def write_report(folder, report):
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def versions():
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "keras_cbam": sys.modules["keras_cbam"].__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }
