"""A trained detector as a SavedModel, checked in a fresh process."""

import dataclasses
import pathlib
import tempfile

import numpy as np

from keras_cbam.data.batches import reading
from keras_cbam.data.order import spread
from keras_cbam.detection.comparison import KEYS, check_detections
from keras_cbam.detection.data.batches import detection_batches
from keras_cbam.detection.evaluate import BATCH_SIZE, run_data, without_known_warnings
from keras_cbam.detection.loading import input_size, load_run
from keras_cbam.detection.models.base import Detector
from keras_cbam.errors import ExportError, TrainingError, positive_integer
from keras_cbam.files.fresh_process import FreshProcessError, answer, run_module
from keras_cbam.serving.artefact_files import beside, put_in_place, refuse_to_lose_artefact
from keras_cbam.serving.formats import INPUT, SIGNATURE
from keras_cbam.serving.saved_model import ENDPOINT
from keras_cbam.training.precision import allowed_difference

FORMAT = "saved_model"


@dataclasses.dataclass(frozen=True)
class DetectorExport:
    """A SavedModel of a detector at `output`, and how it compares with the Keras model.

    Attributes:
        data: string, name of the data of which `images` test images were compared.
        differences: dict: the largest of `"confidence"` and, in pixels, of `"boxes"`; and
            `"unpaired"`, the part of the detections that only one of the models has.
        skipped: list of lines on images that could not be used.
    """

    format: str
    output: pathlib.Path
    data: str
    images: int
    differences: dict
    skipped: list


def export_run(
    run,
    format,  # noqa: A002
    output,
    quantize="none",
    data=None,
    samples=256,
    overwrite=False,
):
    """Writes the detector of a run as a SavedModel, and compares what it finds with Keras.

    Its signatures `serve`, called by `tf.saved_model.load(output).serve(pixels)`, and
    `serving_default` take float32 pixels in [0, 255], `(batch, height, width, 3)`, and return what
    the model's `predict` does: `boxes`, `classes`, `confidence` and `num_detections`. It is written
    whole or not at all, under TensorFlow.

    Args:
        run: `SavedRun`, or path of the folder of a run or of a `.keras` file.
        format: `"saved_model"`.
        output: path of the folder to write.
        quantize: `"none"`.
        data: data of the test images, see `load_detection_data`. Defaults to `None`: the run's.
        samples: int, the most images that are compared. Defaults to `256`.
        overwrite: bool, whether an earlier SavedModel is replaced. Defaults to `False`.

    Returns:
        `DetectorExport`.

    Raises:
        ValueError: if there is no such format or quantization for detectors, or there are no data.
        ModelError, DataError: if it is not a trained detector, or the data cannot be used.
        ExportError: if it cannot be written, or finds something else than the model.
        FileExistsError, OSError: if it would replace anything else, or cannot write the files.

    Example:

    >>> export_run("run", "saved_model", "served/1").differences["unpaired"]
    0.0
    """
    for name, value, only in (("format", format, FORMAT), ("quantize", quantize, "none")):
        if value != only:
            raise ValueError(
                f"Detectors are exported as saved_model only, which is not quantized. "
                f"Received: {name}={value!r}"
            )
    positive_integer("samples", samples)
    output = pathlib.Path(output).absolute()
    refuse_to_lose_artefact(FORMAT, output, overwrite)
    run, model, _ = load_run(run)
    test = run_data(run, input_size(model), data).test
    few = test.select(spread(len(test), samples))
    with reading(*few.sources()):
        batches = detection_batches(few, BATCH_SIZE, input_size(model))
        images = np.concatenate([images for images, _ in batches.as_numpy_iterator()])
    with without_known_warnings():
        expected = model.predict(images, batch_size=BATCH_SIZE, verbose=0)
    with beside(output) as path:
        found = _written_and_loaded(run.model_file, path, images)
        try:
            differences = check_detections(expected, found, allowed_difference(model))
        except TrainingError as error:
            raise ExportError(f"The SavedModel predicts otherwise than Keras: {error}.") from error
        put_in_place(path, output)
    return DetectorExport(FORMAT, output, test.name, len(images), differences, few.all_skipped())


def _written_and_loaded(model_file, path, images):
    """What a SavedModel finds that one fresh process writes and another one loads."""
    with tempfile.TemporaryDirectory() as scratch:
        pixels, found = (str(pathlib.Path(scratch) / name) for name in ("pixels.npy", "found.npz"))
        np.save(pixels, images)
        steps = ({"model_file": str(model_file)}, {"pixels": pixels, "found": found})
        try:
            for paths in steps:
                arguments = {"saved_model": str(path), **paths}
                run_module("keras_cbam.detection.export", arguments, KERAS_BACKEND="tensorflow")
        except FreshProcessError as error:
            raise ExportError(f"The detector cannot be written as a SavedModel: {error}") from error
        with np.load(found) as arrays:
            return dict(arrays)


def _work(saved_model, model_file=None, **paths):
    if model_file is None:
        _predict(saved_model, **paths)
    else:
        _write(model_file, saved_model)


def _write(model_file, saved_model):
    import keras
    import tensorflow as tf

    _, model, _ = load_run(model_file)

    def serve(pixels):
        raw = model(pixels, training=False)
        # Those of keras_cv ask the images for their size.
        more = () if isinstance(model, Detector) else (pixels,)
        return model.decode_predictions(raw, *more)

    signature = [tf.TensorSpec((None, *model.backbone.input_shape[1:]), "float32", name=INPUT)]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(ENDPOINT, serve, signature)
    archive.add_endpoint(SIGNATURE, serve, signature)
    archive.write_out(saved_model, verbose=False)


def _predict(saved_model, pixels, found):
    import tensorflow as tf

    loaded = tf.saved_model.load(saved_model)
    images = np.load(pixels)
    parts = [loaded.serve(images[i : i + BATCH_SIZE]) for i in range(0, len(images), BATCH_SIZE)]
    np.savez(found, **{key: np.concatenate([part[key] for part in parts]) for key in KEYS})


if __name__ == "__main__":
    answer(_work)
