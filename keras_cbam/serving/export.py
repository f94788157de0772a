"""A model in a format of serving, checked by that format's own runtime, whatever its task."""

import dataclasses
import pathlib

import numpy as np

from keras_cbam.errors import ExportError, ModelError, quoted
from keras_cbam.serving import agreement
from keras_cbam.serving.artefact_files import beside, put_in_place, size_in_bytes
from keras_cbam.serving.conversion import convert
from keras_cbam.serving.served import ServedArtefact

# Images at once: of the predictions that are compared, and of those that are timed.
COMPARED_BATCHES = (32, 5)
TIMED_BATCHES = (1, 32)


@dataclasses.dataclass(frozen=True)
class Export:
    """An artefact and how it compares with the Keras model; pairs are of Keras and the artefact.

    Attributes:
        activation: string, what was added to make the model's outputs probabilities, or `None`.
        data: string, name of the data that the images are from.
        calibration_images: int, training images that `"int8"` learned from; else 0.
        images: int, test images that were compared, of the shape `input_shape`.
        largest_difference: float, of probabilities.
        agreement: float, part of the images whose likeliest class is the same.
        accuracy: pair of floats; `None` where the data have other classes than the model.
        size: pair of ints, bytes of the files.
        milliseconds: `{batch size: pair of floats}`, median milliseconds for each image.
        skipped: list of lines `"path: reason"` on images that could not be read.
    """

    format: str
    quantize: str
    output: pathlib.Path
    activation: str | None
    data: str
    calibration_images: int
    images: int
    input_shape: tuple
    largest_difference: float
    agreement: float
    accuracy: tuple | None
    size: tuple
    milliseconds: dict
    skipped: list


def export_model(model, model_file, format, output, quantize, test, calibration, **told):  # noqa: A002
    """Writes a model in a format of serving, compares its predictions with Keras: an `Export`.

    For what it does and raises, see `classification.export.export_run`.

    Args:
        model: `keras.Model` from pixels in [0, 255] to one score for each class.
        model_file: `pathlib.Path` of its `.keras` file.
        output: absolute `pathlib.Path`, checked by `refuse_to_lose_artefact`.
        test: pair of images `(images, height, width, channels)` and int labels, or `None` instead.
        calibration: array of training images that `"int8"` learns from, or `None`.
        **told: `data` and `skipped` of the `Export`.
    """
    images, labels = test
    expected = model.predict(images, batch_size=32, verbose=0).astype("float32")
    if not np.isfinite(expected).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    activation = agreement.missing_activation(expected)
    expected = agreement.activated(expected, activation)
    with beside(output) as path:
        convert(model_file, format, path, quantize, activation, calibration)
        try:
            with ServedArtefact(format, path) as served:
                found = [served.predict(images, size) for size in COMPARED_BATCHES]
                compared = agreement.compare(expected, found)
                agreement.check_agreement(model, format, quantize, **compared)
                milliseconds = {
                    size: agreement.milliseconds_each(model, served, images, size)
                    for size in TIMED_BATCHES
                }
        except ExportError as error:
            place = output.with_name(f"failed-{output.name}") if output.exists() else output
            put_in_place(path, place)
            raise ExportError(f"{error} It is at {quoted(place)}.") from error
        put_in_place(path, output)
    accuracy = None
    if labels is not None:
        accuracy = tuple(
            float((agreement.likeliest(one) == labels).mean()) for one in (expected, found[0])
        )
    return Export(
        format=format,
        quantize=quantize,
        output=output,
        activation=activation,
        calibration_images=0 if calibration is None else len(calibration),
        images=len(images),
        input_shape=images.shape[1:],
        accuracy=accuracy,
        size=(size_in_bytes(model_file), size_in_bytes(output)),
        milliseconds=milliseconds,
        **compared,
        **told,
    )
