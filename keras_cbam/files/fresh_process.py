"""Conversions in a fresh process: TensorFlow writes, whatever the backend of the caller."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from keras_cbam.serving.formats import ExportError


def convert(model_file, file_format, output, quantize="none", activation=None, pictures=None):
    """Writes a `.keras` file in a format of serving, by `keras_cbam.serving.conversion`.

    Args:
        model_file: path of a `.keras` file of layers of Keras and of this package.
        file_format: string, see `find_format`.
        output: path of the file or folder to write.
        quantize: string, see `find_format`. Defaults to `"none"`.
        activation: see `write_saved_model`. Defaults to `None`.
        pictures: array of real pictures, `(pictures, height, width, channels)`, by which
            `"int8"` learns the ranges of the activations. Defaults to `None`.

    Raises:
        ExportError: if it cannot be written.
    """
    with tempfile.TemporaryDirectory() as scratch:
        calibration = None
        if pictures is not None:
            calibration = str(pathlib.Path(scratch) / "pictures.npy")
            np.save(calibration, pictures)
        arguments = {
            "model_file": str(model_file),
            "file_format": file_format,
            "output": str(output),
            "quantize": quantize,
            "activation": activation,
            "calibration": calibration,
        }
        process = subprocess.run(
            [sys.executable, "-m", "keras_cbam.serving.conversion", json.dumps(arguments)],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        )
    if process.returncode:
        raise ExportError(
            f"The model {str(model_file)!r} cannot be written as {file_format}: "
            f"{last_line(process.stderr)}"
        )


def last_line(text):
    """The end of what a failed process printed: the message of its exception."""
    return (text.strip().splitlines() or ["no message"])[-1]
