"""ONNX files, by tf2onnx and the tools of ONNX Runtime."""

import pathlib
import tempfile

import numpy as np

from keras_cbam.serving.formats import INPUT, OUTPUT
from keras_cbam.serving.saved_model import probabilities, tensor_spec

# Weights quantized for each channel need 13 or more.
OPSET = 17


def write(model, file, quantize="none", activation=None, images=None):
    """Converts a float32 Keras model on TensorFlow to an ONNX file.

    Its input `pixels` takes any number of images. Input and output stay float32 with every
    quantization.

    Args:
        model: `keras.Model` that computes in float32.
        file: path of the file to write.
        quantize: `"none"`; `"float16"`, which computes in half precision; or `"int8"`, which
            computes in integers where ONNX Runtime can. Defaults to `"none"`.
        activation: see `write_saved_model`. Defaults to `None`.
        images: array `(images, height, width, channels)` that `"int8"` needs.
            Defaults to `None`.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    serve = probabilities(model, activation)
    function = tf.function(lambda pixels: {OUTPUT: serve(pixels)})
    converted, _ = tf2onnx.convert.from_function(
        function, input_signature=[tensor_spec(model)], opset=OPSET
    )
    for tensor in (*converted.graph.input, *converted.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    if quantize == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted = convert_float_to_float16(converted, keep_io_types=True)
    if quantize == "int8":
        _write_int8(converted, file, images)
    else:
        onnx.save(converted, str(file))


def _write_int8(converted, file, images):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self):
            self.batches = ({INPUT: image[None].astype(np.float32)} for image in images)

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared = (str(pathlib.Path(scratch) / name) for name in ("a.onnx", "b.onnx"))
        onnx.save(converted, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, str(file), Images(), per_channel=True)
