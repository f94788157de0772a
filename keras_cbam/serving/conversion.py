"""A `.keras` file as an artefact for serving, written under TensorFlow in a fresh process."""

import pathlib
import tempfile

import numpy as np

from keras_cbam.errors import ExportError
from keras_cbam.files.fresh_process import FreshProcessError, answer, run_module


def convert(model_file, file_format, output, quantize="none", activation=None, images=None):
    """Writes a `.keras` file in a format of serving, whatever the backend of the caller.

    Args:
        model_file: path of a `.keras` file of layers of Keras and of this package.
        file_format: string, see `find_format`.
        output: path of the file or folder to write.
        quantize: string, see `find_format`. Defaults to `"none"`.
        activation: see `write_saved_model`. Defaults to `None`.
        images: array of real images, `(images, height, width, channels)`, by which `"int8"`
            learns the ranges of the activations. Defaults to `None`.

    Raises:
        ExportError: if it cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch:
        calibration = None
        if images is not None:
            calibration = str(pathlib.Path(scratch) / "images.npy")
            np.save(calibration, images)
        arguments = {
            "model_file": str(model_file),
            "file_format": file_format,
            "output": str(output),
            "quantize": quantize,
            "activation": activation,
            "calibration": calibration,
        }
        try:
            run_module("keras_cbam.serving.conversion", arguments, KERAS_BACKEND="tensorflow")
        except FreshProcessError as error:
            raise ExportError(
                f"The model {str(model_file)!r} cannot be written as {file_format}: {error}"
            ) from error


def _write(model_file, file_format, output, quantize, activation, calibration):
    import keras_cbam  # noqa: F401  (registers the layers)
    from keras_cbam.files.model_files import load_keras_file
    from keras_cbam.serving import litert_file, onnx_file
    from keras_cbam.serving.saved_model import write_saved_model

    model = load_keras_file(model_file)
    if file_format == "saved_model":
        write_saved_model(model, output, activation)
        return
    model = in_float32(model)
    images = None if calibration is None else np.load(calibration)
    if file_format == "onnx":
        onnx_file.write(model, output, quantize, activation, images)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, folder, activation)
        litert_file.write(folder, output, quantize, images)


def in_float32(model):
    """A copy that computes in float32, as the converters know no mixed precision.

    Args:
        model: `keras.Model`, whose layers are given the policy float32 on the way.
    """
    for layer in model._flatten_layers():
        layer.dtype_policy = "float32"
    copy = model.__class__.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


if __name__ == "__main__":
    answer(_write)
