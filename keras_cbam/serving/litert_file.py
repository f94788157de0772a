"""LiteRT files (.tflite), by TensorFlow's converter."""

import pathlib

import numpy as np

from keras_cbam.serving.formats import INPUT, SIGNATURE


def write(saved_model, file, quantize="none", pictures=None):
    """Converts a float32 SavedModel to a LiteRT file of builtin operators.

    Its signature `serving_default` takes any number of pictures. Inputs and outputs stay float32
    with every quantization.

    Args:
        saved_model: path of a folder that `write_saved_model` wrote.
        file: path of the file to write.
        quantize: `"none"`; `"float16"`, which stores the weights in half the bytes; or `"int8"`,
            which computes in integers where LiteRT can. Defaults to `"none"`.
        pictures: array `(pictures, height, width, channels)` that `"int8"` needs.
            Defaults to `None`.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=[SIGNATURE]
    )
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.representative_dataset = lambda: (
            {INPUT: picture[None].astype(np.float32)} for picture in pictures
        )
    pathlib.Path(file).write_bytes(converter.convert())
