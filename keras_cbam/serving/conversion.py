"""A `.keras` file as an artefact for serving, written under TensorFlow in a fresh process."""

import pathlib
import tempfile

import numpy as np

from keras_cbam._compat import inner_layers
from keras_cbam.errors import ExportError
from keras_cbam.files.fresh_process import FreshProcessError, answer, run_module
from keras_cbam.serving.formats import INPUT, SIGNATURE

# In integers the first two crash LiteRT 2.3 where gates project descriptors of any number of
# images; sums overflow: https://github.com/google-ai-edge/LiteRT/issues/4079.
LITERT_IN_FLOAT32 = ("ADD", "FULLY_CONNECTED", "SUM")
# Weights quantized for each channel need 13 or more.
_ONNX_OPSET = 17


def convert(
    model_file, file_format, output, quantize="none", activation=None, images=None, writer=__name__
):
    """Writes a `.keras` file in a format of serving, whatever the backend; or raises ExportError.

    From the `images`, `"int8"` learns ranges of activations. `writer` is the name of the module
    that does it in a fresh process.
    """
    arguments = {"file_format": file_format, "quantize": quantize, "activation": activation}
    arguments |= {"model_file": str(model_file), "output": str(output), "calibration": None}
    with tempfile.TemporaryDirectory() as scratch:
        if images is not None:
            arguments["calibration"] = str(pathlib.Path(scratch) / "images.npy")
            np.save(arguments["calibration"], images)
        try:
            run_module(writer, arguments, KERAS_BACKEND="tensorflow")
        except FreshProcessError as error:
            raise ExportError(
                f"The model {str(model_file)!r} cannot be written as {file_format}: {error}"
            ) from error


def _write(model_file, file_format, output, quantize, activation, calibration):
    import keras_cbam  # noqa: F401  (registers the layers)
    from keras_cbam.files.model_files import load_keras_file
    from keras_cbam.serving.saved_model import write_saved_model

    def saved_model(model, folder):
        write_saved_model(model, folder, activation)

    write(load_keras_file(model_file), file_format, output, saved_model, quantize, calibration)


def write(
    model,
    file_format,
    output,
    saved_model,
    quantize="none",
    calibration=None,
    operators=LITERT_IN_FLOAT32,
):
    """Writes a model in a format, by way of what `saved_model(model, folder)` writes.

    From the images in the file `calibration`, `"int8"` learns ranges of activations; LiteRT keeps
    these `operators` in float32.
    """
    if file_format == "saved_model":
        saved_model(model, output)
        return
    images = None if calibration is None else np.load(calibration)
    with tempfile.TemporaryDirectory() as folder:
        saved_model(in_float32(model), folder)
        if file_format == "litert":
            _write_litert(folder, output, quantize, images, operators)
        else:
            _write_onnx(folder, output, quantize, images)


def in_float32(model):
    """A copy that computes in float32, as the converters know no mixed precision."""
    # So do the layers of the model itself from then on.
    for layer in inner_layers(model):
        layer.dtype_policy = "float32"
    copy = model.__class__.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def _write_litert(folder, file, quantize, images, operators):
    """Writes a SavedModel of float32 as a LiteRT file of builtin operators.

    Inputs and outputs stay float32. `"float16"` stores the weights in half the bytes; `"int8"`
    computes in integers, except for the given operators.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.representative_dataset = lambda: _examples(images)
        # The way to leave operators out:
        # https://www.tensorflow.org/lite/performance/quantization_debugger
        debugger = tf.lite.experimental
        selective = debugger.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=debugger.QuantizationDebugOptions(denylisted_ops=list(operators)),
        )
        content = selective.get_nondebug_quantized_model()
    else:
        content = converter.convert()
    pathlib.Path(file).write_bytes(content)


def _examples(images):
    return ({INPUT: image[None].astype(np.float32)} for image in images)


def _write_onnx(folder, file, quantize, images):
    """Writes a SavedModel as an ONNX file with float32 inputs, for any number of images."""
    import tf2onnx

    graph, inputs, outputs, names = tf2onnx.tf_loader.from_saved_model(
        folder, None, None, ["serve"], [SIGNATURE], return_tensors_to_rename=True
    )
    converted, _ = tf2onnx.convert.from_graph_def(
        graph,
        input_names=inputs,
        output_names=outputs,
        opset=_ONNX_OPSET,
        tensors_to_rename=names,
    )
    for tensor in (*converted.graph.input, *converted.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    if quantize == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted = convert_float_to_float16(converted, keep_io_types=True)
    if quantize == "int8":
        _write_onnx_int8(converted, file, images)
    else:
        pathlib.Path(file).write_bytes(converted.SerializeToString())


def _write_onnx_int8(converted, file, images):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self):
            self.batches = _examples(images)

        def get_next(self):
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared = (str(pathlib.Path(scratch) / name) for name in ("a.onnx", "b.onnx"))
        onnx.save(converted, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, str(file), Images(), per_channel=True)


if __name__ == "__main__":
    answer(_write)
