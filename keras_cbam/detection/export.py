"""The verb `export`: a trained detector in a format of serving, checked in a fresh process."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from keras_cbam.data.batches import reading
from keras_cbam.data.order import spread
from keras_cbam.detection.data.batches import detection_batches
from keras_cbam.detection.evaluate import (
    BATCH_SIZE,
    LARGEST_UNPAIRED,
    check_detections,
    part_of,
    run_data,
)
from keras_cbam.detection.loading import load_run
from keras_cbam.errors import ExportError, TrainingError, positive_integer, require
from keras_cbam.files.fresh_process import answer
from keras_cbam.serving import artefact_files, conversion
from keras_cbam.serving.export import Artefact, served
from keras_cbam.serving.formats import INPUT, SIGNATURE, find_format
from keras_cbam.serving.saved_model import ENDPOINT
from keras_cbam.training.precision import allowed_difference

# What the boxes are computed by: in integers, coordinates would be rounded to several pixels.
IN_FLOAT32 = (
    *conversion.LITERT_IN_FLOAT32,
    *("BROADCAST_TO", "CONCATENATION", "DIV", "EXP", "GATHER", "GATHER_ND", "LOGISTIC", "MAXIMUM"),
    *("MINIMUM", "MUL", "PACK", "REDUCE_MAX", "REDUCE_MIN", "RESHAPE", "SELECT_V2", "SLICE"),
    *("SOFTMAX", "STRIDED_SLICE", "SUB", "TOPK_V2", "TRANSPOSE"),
)
# By quantization: how far paired detections may be apart, see `check_detections`; and the part of
# them that may have no counterpart.
LIMITS = {"float16": (1e-2, 0.05), "int8": (0.1, 0.25)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorExport(Artefact):
    """How an `Artefact` of a detector compares with the Keras model.

    Attributes:
        detections: int, objects that the Keras model finds in the images.
        differences: dict: the largest of `"confidence"` and, in pixels, of `"boxes"`; and
            `"unpaired"`, the part of the detections that only one of the models has.
    """

    detections: int
    differences: dict


def export_run(
    run: Any,
    format: str,  # noqa: A002
    output: str | os.PathLike,
    quantize: str = "none",
    data: Any = None,
    samples: int = 256,
    overwrite: bool = False,
) -> DetectorExport:
    """Writes the detector of a run in a format of serving, and compares what it finds with Keras.

    The artefact takes float32 `pixels` in [0, 255], `(batch, height, width, 3)`, and returns what
    the model's `predict` does: `boxes`, `classes`, `confidence` and `num_detections`. A SavedModel,
    by its signatures `serve` and `serving_default`, and an ONNX file take any number of images, a
    LiteRT file one image. It is written under TensorFlow.

    Args:
        run: `SavedRun`, or path of the folder of a run or of a `.keras` file.
        format: `"saved_model"`, `"litert"` or `"onnx"`.
        output: path of the folder (SavedModel) or file (`.tflite`, `.onnx`) to write.
        quantize: `"none"`; for LiteRT also `"float16"`, or `"int8"`, which learns the ranges of
            activations from training images and computes boxes in float32. Defaults to `"none"`.
        data: other data, see `load_detection_data`. Defaults to `None`: the run's.
        samples: int, the most images that are compared, and that are learned from. Defaults to
            `256`.
        overwrite: bool, whether an earlier artefact is replaced. Defaults to `False`.

    Returns:
        `DetectorExport`.

    Raises:
        ValueError: if there is no such format or quantization for detectors, or there are no data.
        ImportError: if a library of the format is not installed; it names the extra.
        ModelError, DataError: if it is not a trained detector, or the data cannot be used.
        ExportError: if it cannot be written, or finds something else than the model: more than 1 %
            of the detections have no counterpart, with `"float16"` 5 %, with `"int8"` 25 %. The
            artefact is kept, beside an earlier one as `failed-<name>`.
        FileExistsError, OSError: if it would replace anything else, or cannot write the files.

    Example:

    >>> export_run("run", "saved_model", "served/1").differences["unpaired"]
    0.0
    """
    find_format(format, quantize, output)
    reason = "Detectors are quantized in the format litert only."
    received = f"format={format!r}, quantize={quantize!r}"
    require(quantize == "none" or format == "litert", reason, received)
    positive_integer("samples", samples)
    output = pathlib.Path(output).absolute()
    artefact_files.refuse_to_lose_artefact(format, output, overwrite)
    run, model, _ = load_run(run)
    is_learned = quantize == "int8"
    # What is learned from is not compared.
    part = "test" if is_learned else None
    loaded = run_data(run, model.image_size[0], data, part, samples if is_learned else 1)
    images, skipped = _sample(part_of(loaded, "test"), samples, model)
    calibration, more = None, []
    if is_learned:
        calibration, more = _sample(part_of(loaded, "train"), samples, model)
    expected = model.predict(images, batch_size=BATCH_SIZE, verbose=0)
    limits = LIMITS.get(quantize, (allowed_difference(model), LARGEST_UNPAIRED))
    written = (run.model_file, format, output, quantize, calibration)
    with served(*written, writer=__name__) as artefact:
        found = artefact.predict(images, 1 if format == "litert" else BATCH_SIZE)
        try:
            differences = check_detections(expected, found, *limits)
        except TrainingError as error:
            raise ExportError(f"The {format} predicts otherwise than Keras: {error}.") from error
    return DetectorExport(
        format=format,
        quantize=quantize,
        output=output,
        data=loaded.test.name,
        calibration_images=0 if calibration is None else len(calibration),
        images=len(images),
        detections=int(expected["num_detections"].sum()),
        differences=differences,
        size=(artefact_files.size_in_bytes(run.model_file), artefact_files.size_in_bytes(output)),
        skipped=skipped + more,
    )


def _sample(part, samples, model):
    """Some images of a part as an array, and the lines on those that cannot be used."""
    few, size = part.select(spread(len(part), samples)), model.image_size[0]
    with reading(few.source):
        batches = detection_batches(few, BATCH_SIZE, size, short_side=model.short_side)
        images = np.concatenate([images for images, _ in batches.as_numpy_iterator()])
    return images, few.all_skipped()


def _write(model_file, file_format, output, quantize, activation, calibration):
    """Writes an artefact of a detector, see `convert`, in a process of its own."""
    import keras
    import tensorflow as tf

    def saved_model(model, folder):
        def serve(pixels):
            return model.decode_predictions(model(pixels, training=False))

        # Suppression converts to LiteRT for a known number of images.
        shape = (1 if file_format == "litert" else None, *model.backbone.input_shape[1:])
        signature = [tf.TensorSpec(shape, "float32", name=INPUT)]
        archive: Any = keras.export.ExportArchive()
        archive.track(model)
        for endpoint in (ENDPOINT, SIGNATURE):
            archive.add_endpoint(endpoint, serve, signature)
        archive.write_out(folder, verbose=False)

    _, model, _ = load_run(model_file)
    given = (model, file_format, output, saved_model, quantize, calibration, IN_FLOAT32)
    conversion.write(*given)


if __name__ == "__main__":
    answer(_write)
