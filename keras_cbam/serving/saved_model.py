"""SavedModels: raw pixels in, probabilities out, without Keras or this package."""

import pathlib
import tempfile

import keras

from keras_cbam.serving.conversion import convert
from keras_cbam.serving.formats import INPUT, OUTPUT, SIGNATURE

ENDPOINT = "serve"


def write_saved_model(model, folder, activation=None):
    """Writes a TensorFlow SavedModel of a classifier, in the place of what is in the folder.

    Its signatures, `serve` and `serving_default`, take float32 pixels for any batch and give
    float32 probabilities. An `activation` such as `"softmax"` is added to logits.
    """
    folder = str(folder)
    # What JAX and PyTorch write is tied to one platform or batch: a fresh process writes it.
    if keras.backend.backend() != "tensorflow":
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "model.keras"
            model.save(path)
            convert(path, "saved_model", folder, activation=activation)
        return
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = [tensor_spec(model)]
    serve = archive.add_endpoint(ENDPOINT, probabilities(model, activation), signature)
    archive.add_endpoint(SIGNATURE, lambda pixels: {OUTPUT: serve(pixels)}, signature)
    archive.write_out(folder, verbose=False)


def tensor_spec(model):
    """The `tf.TensorSpec` of the pixels that a model takes, any number of images."""
    import tensorflow as tf

    return tf.TensorSpec((None, *model.input_shape[1:]), "float32", name=INPUT)


def probabilities(model, activation):
    """A function from float32 pixels to float32 probabilities; see `write_saved_model`."""
    activate = keras.activations.get(activation)

    def serve(pixels):
        return activate(keras.ops.cast(model(pixels, training=False), "float32"))

    return serve
