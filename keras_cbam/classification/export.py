"""The verb `export`: a trained classifier in a format of serving, checked by its own runtime."""

import os
import pathlib

import numpy as np

from keras_cbam.classification.evaluate import load_classifier, own_data, preprocessing
from keras_cbam.data.batches import reading
from keras_cbam.data.load import load_data
from keras_cbam.data.order import spread
from keras_cbam.errors import DataError, positive_integer, quoted
from keras_cbam.serving.artefact_files import refuse_to_lose_artefact
from keras_cbam.serving.export import Export, export_model
from keras_cbam.serving.formats import find_format
from keras_cbam.training.saved_run import SavedRun


def export_run(
    run: SavedRun | str | os.PathLike,
    format: str,  # noqa: A002
    output: str | os.PathLike,
    quantize: str = "none",
    data: str | os.PathLike | None = None,
    samples: int = 256,
    overwrite: bool = False,
) -> Export:
    """Writes a classifier in a format of serving, and compares what it predicts with Keras.

    In every format and quantization the artefact takes float32 `"pixels"` in [0, 255],
    `(batch, height, width, 3)`, and returns float32 `"probabilities"`, `(batch, classes)`. A
    softmax (for a single score a sigmoid) is added to scores outside [0, 1]. The artefact is
    compared and timed in a fresh process.

    Args:
        run: `SavedRun`, or the path of the folder of a run or of a `.keras` file.
        format: `"saved_model"`, `"litert"` or `"onnx"`.
        output: path of the file (`.tflite`, `.onnx`) or folder (SavedModel) to write.
        quantize: `"none"`; for LiteRT and ONNX also `"float16"`, or `"int8"`, which learns the
            ranges of activations from training images. Defaults to `"none"`.
        data: other images, see `load_data`. Defaults to `None`: those of the run.
        samples: int, the most training images for `"int8"`, and test images for the comparison.
            Defaults to `256`.
        overwrite: bool, whether an earlier artefact at `output` is replaced. Defaults to `False`.

    Returns:
        An `Export`.

    Raises:
        ValueError: if an argument is outside its range, the format has no such quantization, or a
            model without a run is given no data.
        ImportError: if a library of the format is not installed; it names the extra.
        FileExistsError: if `output` exists; with `overwrite`, if it is not of this format.
        ModelError, DataError: if the model or the data cannot be used.
        ExportError: if the model cannot be converted, or the artefact predicts otherwise than
            Keras: probabilities differ by more than 1e-4 (mixed_float16 1e-2, mixed_bfloat16
            5e-2), or, for `"float16"` and `"int8"`, the likeliest class for more than 1 % and 10 %
            of the images. The artefact is kept, beside an earlier one as `failed-<name>`.
        OSError: if the files cannot be written.

    Example:

    >>> export_run("run", "litert", "model.tflite", quantize="int8").agreement
    """
    find_format(format, quantize, output)
    positive_integer("samples", samples)
    output = pathlib.Path(os.path.abspath(output))
    refuse_to_lose_artefact(format, output, overwrite)
    run, model, size = load_classifier(run)
    if data is None:
        loaded = own_data(run)
    else:
        seed = run.arguments.get("seed", 0)
        loaded = load_data(data, size, seed, resize=preprocessing(run.arguments))
    with reading(*loaded.sources()):
        images, labels = _sample(loaded, "test", samples)
        calibration = _sample(loaded, "train", samples)[0] if quantize == "int8" else None
    has_names = loaded.class_names == (run.class_names or loaded.class_names)
    if not has_names or len(loaded.class_names) != model.output_shape[-1]:
        labels = None
    told = {"data": loaded.name, "skipped": loaded.all_skipped()}
    test = images, labels
    return export_model(model, run.model_file, format, output, quantize, test, calibration, **told)


def _sample(data, part, samples):
    """Some images of a part, and the labels of those that can be read."""
    part = getattr(data, part)
    indices = spread(len(part), samples)
    images, kept = part.images.read(indices)
    if not kept.any():
        raise DataError(f"None of the images of {quoted(data.name)} can be read.")
    return images, np.asarray(part.labels)[indices][kept]
