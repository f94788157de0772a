"""The models of a run, loaded in a fresh process and compared with the one in memory."""

import importlib
import pathlib
import tempfile

import numpy as np

from keras_cbam.errors import TrainingError
from keras_cbam.files.fresh_process import FreshProcessError, answer, run_module
from keras_cbam.training.precision import allowed_difference
from keras_cbam.training.run_folder import MODEL

SAVED_MODEL = "saved_model"


def check_reloaded(task, model, data, folder):
    """Returns `{artefact: what task.compare gives}`, TrainingError if one predicts otherwise."""
    images, *_ = next(task.batches(data, "sample").take(1).as_numpy_iterator())
    expected = model.predict(images, verbose=0)
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "sample.npz"
        np.savez(path, images=images, **_named(expected))
        try:
            given = {"folder": str(folder), "sample": str(path)}
            given["task"] = f"{type(task).__module__}:{type(task).__qualname__}"
            given["tolerance"] = allowed_difference(model)
            return run_module("keras_cbam.training.check", given)
        except FreshProcessError as error:
            raise TrainingError(f"in a fresh process: {error}") from error


def _named(predictions):
    return predictions if isinstance(predictions, dict) else {"predictions": predictions}


def _compare(task, folder, sample, tolerance):
    import keras

    import keras_cbam  # noqa: F401  (registers the layers)
    from keras_cbam.files.model_files import load_keras_file
    from keras_cbam.serving.formats import OUTPUT
    from keras_cbam.serving.runtimes import load_artefact

    module, name = task.split(":")
    compare = getattr(importlib.import_module(module), name).compare
    with np.load(sample) as arrays:
        expected = dict(arrays)
    images = expected.pop("images")
    model = load_keras_file(f"{folder}/{MODEL}")
    if keras.backend.backend() == "tensorflow":
        # For one prediction XLA takes longer to compile than it saves.
        model.jit_compile = False
    found = {MODEL: model.predict(images, verbose=0)}
    if (pathlib.Path(folder) / SAVED_MODEL).exists():
        serve = load_artefact("saved_model", f"{folder}/{SAVED_MODEL}")
        found[SAVED_MODEL] = serve(images.astype("float32"))[OUTPUT]
    differences = {}
    for artefact, predictions in found.items():
        try:
            differences[artefact] = compare(expected, _named(predictions), tolerance)
        except TrainingError as error:
            raise TrainingError(f"The reloaded {artefact} predicts otherwise: {error}") from error
    return differences


if __name__ == "__main__":
    answer(_compare)
