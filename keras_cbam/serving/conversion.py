"""Run as a fresh process under TensorFlow: a `.keras` file in, an artefact for serving out."""

import json
import sys
import tempfile

import numpy as np

import keras_cbam  # noqa: F401  (registers the layers)
from keras_cbam.files.model_files import load_keras_file
from keras_cbam.serving import litert_file, onnx_file
from keras_cbam.serving.saved_model import write_saved_model


def main(model_file, file_format, output, quantize, activation, calibration):
    """Writes `output`. See `keras_cbam.files.fresh_process.convert`."""
    model = load_keras_file(model_file)
    if file_format == "saved_model":
        write_saved_model(model, output, activation)
        return
    model = in_float32(model)
    pictures = None if calibration is None else np.load(calibration)
    if file_format == "onnx":
        onnx_file.write(model, output, quantize, activation, pictures)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, folder, activation)
        litert_file.write(folder, output, quantize, pictures)


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
    try:
        main(**json.loads(sys.argv[1]))
    except Exception as error:
        # The converters print whole programs: the parent shows the last line.
        message = " ".join(str(error).split()) or type(error).__name__
        sys.exit(message if len(message) < 500 else f"{message[:500]}...")
