"""A trained classifier in a format of serving, checked by that format's own runtime."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from keras_cbam.classification.evaluate import input_size, load_classifier
from keras_cbam.classification.explain import run_class_names
from keras_cbam.data.image_files import resize_arrays
from keras_cbam.data.load import load_data
from keras_cbam.errors import ExportError, ModelError, positive_integer
from keras_cbam.serving.agreement import (
    activated,
    check_agreement,
    compare,
    milliseconds_each,
    missing_activation,
)
from keras_cbam.serving.conversion import convert
from keras_cbam.serving.formats import find_format
from keras_cbam.serving.served import ServedArtefact
from keras_cbam.training.report import spread
from keras_cbam.training.run_folder import put_in_place

# What a folder of TensorFlow's may hold.
_SAVED_MODEL = {
    *("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"),
    "keras_metadata.pb",
}
# Smallest side of the pictures that `load_data` gives.
_SMALLEST = 32
# Pictures at once: of the predictions that are compared, and of those that are timed.
COMPARED_BATCHES = (32, 5)
TIMED_BATCHES = (1, 32)


@dataclasses.dataclass(frozen=True)
class Export:
    """An artefact and how it compares with the Keras model; pairs are of Keras and the artefact.

    Attributes:
        format: string.
        quantize: string.
        output: `pathlib.Path` of the file or folder.
        activation: string, the activation that was added to make the model's outputs
            probabilities, or `None`.
        data: string, name of the data set that the pictures are of.
        pictures: int, number of the test pictures that were compared.
        input_shape: tuple, of one picture.
        largest_difference: float, of probabilities.
        agreement: float, part of the pictures whose likeliest class is the same.
        accuracy: pair of floats, top-1 accuracy; `None` where the model's classes are not those of
            the data.
        size: pair of ints, bytes of the files.
        milliseconds: `{batch size: pair of floats}`, median milliseconds for each picture.
    """

    format: str
    quantize: str
    output: pathlib.Path
    activation: str | None
    data: str
    pictures: int
    input_shape: tuple
    largest_difference: float
    agreement: float
    accuracy: tuple | None
    size: tuple
    milliseconds: dict


def export_classifier(
    source,
    format,  # noqa: A002
    output,
    quantize="none",
    data=None,
    samples=256,
    overwrite=False,
):
    """Writes a classifier in a format of serving, and compares what it predicts with Keras.

    The artefact takes float32 pixels in [0, 255], `"pixels"` of shape
    `(batch, height, width, 3)`, and gives float32 `"probabilities"` of shape `(batch, classes)`,
    with every format and quantization. Scores outside [0, 1] are taken for logits: a softmax
    (for a single score a sigmoid) is added. A model of mixed precision becomes a float32 LiteRT or
    ONNX file.

    It is written whole or not at all, loaded in a fresh process by its own runtime, without Keras,
    and compared on test pictures. Keras and the runtime are timed by turns, on all CPU cores.

    Args:
        source: path of a `.keras` file, or of the folder of a training run.
        format: `"saved_model"`, `"litert"` or `"onnx"`.
        output: path of the file (`.tflite`, `.onnx`) or folder (SavedModel) to write.
        quantize: `"none"`; for LiteRT and ONNX also `"float16"`, or `"int8"`, which learns the
            ranges of activations from training pictures. Defaults to `"none"`.
        data: the pictures, see `load_data`; those that the model was trained on are best.
            Defaults to `None`: the embedded Fashion-MNIST pictures.
        samples: int, at most how many training pictures are used for `"int8"`, and test pictures
            for the comparison. Defaults to `256`.
        overwrite: bool, whether an earlier artefact at `output` is replaced. Defaults to `False`.

    Returns:
        An `Export`.

    Raises:
        ValueError: if an argument is outside its range, or the format has no such quantization.
        ImportError: if a library of the format is not installed; it names the extra.
        FileExistsError: if there is an `output` already; with `overwrite=True`, if it is not of
            this format.
        ModelError: if the model cannot be loaded, or is not a classifier of square pictures.
        DataError: if the data cannot be used.
        ExportError: if the model cannot be converted, or the artefact predicts otherwise than
            Keras: probabilities that are not finite or differ by more than 1e-4 (mixed_float16
            1e-2, mixed_bfloat16 5e-2), or, for `"float16"` and `"int8"`, another likeliest class
            for more than 1 % and 10 % of the pictures. The artefact is there then, to be looked
            at; where it would have replaced an earlier one, it is beside it, `failed-<name>`.
        OSError: if the files cannot be written.

    Example:

    >>> export = export_classifier("keras_cbam_run", "litert", "model.tflite", quantize="int8")
    >>> export.agreement
    """
    find_format(format, quantize, output)
    positive_integer("samples", samples)
    output = pathlib.Path(os.path.abspath(output))
    _refuse_to_lose_files(format, output, overwrite)
    model_file = pathlib.Path(source)
    if model_file.is_dir():
        model_file = model_file / "model.keras"
    model = load_classifier(model_file)
    size = input_size(model)
    data_set = load_data(data, max(size, _SMALLEST), seed=_seed(model_file))
    pictures, labels = _sample(data_set.test_images, data_set.test_labels, size, samples)
    expected = model.predict(pictures, batch_size=32, verbose=0).astype("float32")
    activation = missing_activation(expected)
    if not np.isfinite(expected).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    calibration = None
    if quantize == "int8":
        training = data_set.train_images, data_set.train_labels
        calibration, _ = _sample(*training, size, samples)
    expected = activated(expected, activation)
    classes = expected.shape[1]
    names = run_class_names(model_file, classes)
    has_labels = names == data_set.class_names if names else classes == len(data_set.class_names)
    with _beside(output) as path:
        convert(model_file, format, path, quantize, activation, calibration)
        try:
            with ServedArtefact(format, path) as served:
                probabilities = [served.predict(pictures, size) for size in COMPARED_BATCHES]
                result = compare(expected, probabilities, labels if has_labels else None)
                check_agreement(model, format, quantize, result)
                milliseconds = {
                    batch: milliseconds_each(model, served, pictures, batch)
                    for batch in TIMED_BATCHES
                }
        except ExportError as error:
            # To be looked at, beside the earlier one that it does not replace.
            place = output.with_name(f"failed-{output.name}") if output.exists() else output
            put_in_place(path, place, path.with_name("old"))
            raise ExportError(f"{error} It is at {str(place)!r}.") from error
        put_in_place(path, output, path.with_name("old"))
    return Export(
        format=format,
        quantize=quantize,
        output=output,
        activation=activation,
        data=data_set.name,
        pictures=len(pictures),
        input_shape=pictures.shape[1:],
        size=(_bytes(model_file), _bytes(output)),
        milliseconds=milliseconds,
        **result,
    )


def _refuse_to_lose_files(file_format, output, overwrite):
    if not output.exists():
        return
    is_artefact = output.is_file()
    if file_format == "saved_model":
        is_artefact = output.is_dir() and ({path.name for path in output.iterdir()} <= _SAVED_MODEL)
    if not is_artefact:
        raise FileExistsError(
            f"The output {str(output)!r} is there already, and no {file_format}. "
            "Choose another --output."
        )
    if not overwrite:
        raise FileExistsError(
            f"The output {str(output)!r} exists already. "
            "Choose another --output, or pass --overwrite to replace it."
        )


@contextlib.contextmanager
def _beside(output):
    """A path in a folder beside `output` that vanishes with the block."""
    # On the same disk, beside folders that exist already, so that a failure leaves no new ones.
    base = next(parent for parent in output.parents if parent.exists())
    if not base.is_dir():
        raise NotADirectoryError(f"Not a directory: {str(base)!r}.")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=base))
    try:
        yield scratch / output.name
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _seed(model_file):
    """The seed of the run that a model belongs to: it splits the data as the training did."""
    report = model_file.with_name("report.json")
    if not report.is_file():
        return 0
    try:
        seed = json.loads(report.read_text())["arguments"]["seed"]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Another program's report.
        return 0
    return seed if type(seed) is int and 0 <= seed < 2**32 else 0


def _sample(images, labels, size, samples):
    indices = spread(len(images), samples)
    images, labels = images[indices], labels[indices]
    if images.shape[1] != size:
        images = resize_arrays(images, 1, size)
    return images, labels


def _bytes(path):
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(file.stat().st_size for file in files)
