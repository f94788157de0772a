"""LiteRT files (.tflite), by TensorFlow's converter."""

import pathlib

import numpy as np

from keras_cbam.serving.formats import INPUT, SIGNATURE

# In integers the first two crash LiteRT 2.3 where gates project descriptors of any number of
# images; sums overflow: https://github.com/google-ai-edge/LiteRT/issues/4079.
_IN_FLOAT32 = ["ADD", "FULLY_CONNECTED", "SUM"]


def write(saved_model, file, quantize="none", images=None):
    """Converts a float32 SavedModel to a LiteRT file of builtin operators.

    Its signature `serving_default` takes any number of images. Inputs and outputs stay float32
    with every quantization.

    Args:
        saved_model: path of a folder that `write_saved_model` wrote.
        file: path of the file to write.
        quantize: `"none"`; `"float16"`, which stores the weights in half the bytes; or `"int8"`,
            which computes convolutions, pools and products in integers and the rest in float32.
            Defaults to `"none"`.
        images: array `(images, height, width, channels)` that `"int8"` needs.
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
    content = _in_integers(converter, images) if quantize == "int8" else converter.convert()
    pathlib.Path(file).write_bytes(content)


def _in_integers(converter, images):
    import tensorflow as tf

    def examples():
        return ({INPUT: image[None].astype(np.float32)} for image in images)

    converter.representative_dataset = examples
    # The way to leave operators out: https://www.tensorflow.org/lite/performance/quantization_debugger
    selective = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=examples,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_IN_FLOAT32),
    )
    return selective.get_nondebug_quantized_model()
