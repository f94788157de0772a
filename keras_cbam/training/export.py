"""A trained classifier in a format of serving, checked by that format's own runtime."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np

from keras_cbam.layers.attention_layer import positive_integer
from keras_cbam.serving.formats import ExportError, find_format
from keras_cbam.serving.fresh_process import convert
from keras_cbam.serving.runtimes import call_milliseconds
from keras_cbam.serving.served import ServedArtefact
from keras_cbam.training.data import load_data
from keras_cbam.training.evaluation import ModelError, input_size, load_classifier
from keras_cbam.training.pictures import resize_arrays
from keras_cbam.training.run import spread

# Largest difference of probabilities, by the dtype in which the model computes.
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
# Smallest part of the pictures whose likeliest class is the same.
LEAST_AGREEMENT = {"float16": 0.99, "int8": 0.9}
# Smallest side of the pictures that `load_data` gives.
_SMALLEST = 32
# Pictures at once: of the predictions that are compared, and of those that are timed.
COMPARED_BATCHES = (32, 5)
TIMED_BATCHES = (1, 32)
# Turns in which Keras and the runtime are timed, and seconds of each.
_TURNS, _TURN_SECONDS = 8, 0.1


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
            for more than 1 % and 10 % of the pictures. The artefact is there then, to be looked at.
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
    activation = _missing_activation(expected)
    if not np.isfinite(expected).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    calibration = None
    if quantize == "int8":
        training = data_set.train_images, data_set.train_labels
        calibration, _ = _sample(*training, size, samples)
    with _replacing(output) as path:
        convert(model_file, format, path, quantize, activation, calibration)
    expected = _activated(expected, activation)
    has_labels = expected.shape[1] == len(data_set.class_names)
    with ServedArtefact(format, output) as served:
        probabilities = [served.predict(pictures, size) for size in COMPARED_BATCHES]
        result = _compared(expected, probabilities, labels if has_labels else None)
        _check(model, format, quantize, output, result)
        milliseconds = {batch: _times(model, served, pictures, batch) for batch in TIMED_BATCHES}
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
        is_artefact = output.is_dir() and (
            (output / "saved_model.pb").is_file() or not any(output.iterdir())
        )
    if not is_artefact:
        raise FileExistsError(f"The output {str(output)!r} is there already, and no {file_format}.")
    if not overwrite:
        raise FileExistsError(f"The output {str(output)!r} exists already.")


@contextlib.contextmanager
def _replacing(output):
    """A path beside `output` that takes its place when the block ends well."""
    # On the same disk, beside folders that exist already, so that a failure leaves no new ones.
    base = next(parent for parent in output.parents if parent.exists())
    if not base.is_dir():
        raise NotADirectoryError(f"Not a directory: {str(base)!r}.")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=base))
    try:
        new = scratch / output.name
        yield new
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists():
            output.rename(scratch / "old")
        new.rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _seed(model_file):
    """The seed of the run that a model belongs to: it splits the data as the training did."""
    report = model_file.with_name("report.json")
    if not report.is_file():
        return 0
    try:
        return json.loads(report.read_text())["arguments"]["seed"]
    except (ValueError, KeyError, TypeError):
        # Another program's report.
        return 0


def _sample(images, labels, size, samples):
    indices = spread(len(images), samples)
    images, labels = images[indices], labels[indices]
    if images.shape[1] != size:
        images = resize_arrays(images, 1, size)
    return images, labels


def _missing_activation(scores):
    if scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3:
        return None
    return "sigmoid" if scores.shape[1] == 1 else "softmax"


def _activated(scores, activation):
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-scores))
    if activation == "softmax":
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
    return scores


def _likeliest(probabilities):
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > 0.5).astype(int)
    return probabilities.argmax(axis=1)


def _compared(expected, probabilities, labels):
    """The worst of several predictions of the same pictures."""
    best = _likeliest(expected)
    return {
        "largest_difference": max(float(np.abs(one - expected).max()) for one in probabilities),
        "agreement": min(float((_likeliest(one) == best).mean()) for one in probabilities),
        "accuracy": None
        if labels is None
        else tuple(
            float((_likeliest(one) == labels).mean()) for one in (expected, probabilities[0])
        ),
    }


def _check(model, file_format, quantize, output, result):
    difference, agreement = result["largest_difference"], result["agreement"]
    tolerance = max(TOLERANCE.get(one.compute_dtype, 0) for one in model._flatten_layers())
    least = LEAST_AGREEMENT.get(quantize, 0)
    said = f"The {file_format} artefact {str(output)!r} predicts otherwise than Keras: "
    if not np.isfinite(difference):
        raise ExportError(f"{said}its probabilities are not finite.")
    if quantize == "none" and difference > tolerance:
        raise ExportError(f"{said}largest difference {difference:.2g}, allowed {tolerance:.2g}.")
    if agreement < least:
        raise ExportError(
            f"{said}the likeliest class is the same for {agreement:.1%} of the pictures, "
            f"at least {least:.0%} are needed with {quantize}."
        )


def _times(model, served, pictures, batch):
    """Median milliseconds for each picture, of Keras and of the artefact."""
    pictures = np.resize(pictures, (batch, *pictures.shape[1:])).astype("float32")
    # The first calls compile.
    model.predict_on_batch(pictures)
    served.milliseconds(pictures, 0)
    keras_times, served_times = [], []
    for _ in range(_TURNS):
        keras_times += call_milliseconds(model.predict_on_batch, pictures, _TURN_SECONDS)
        served_times += served.milliseconds(pictures, _TURN_SECONDS)
    return tuple(float(np.median(times)) / batch for times in (keras_times, served_times))


def _bytes(path):
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(file.stat().st_size for file in files)
