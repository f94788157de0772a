"""How far an artefact for serving agrees with its Keras model, and how long both take."""

import numpy as np

from keras_cbam._compat import inner_layers
from keras_cbam.errors import ExportError
from keras_cbam.serving.runtimes import call_milliseconds

# Largest difference of probabilities, by the dtype in which a layer computes.
TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2}
# Smallest part of the images whose likeliest class is the same.
LEAST_AGREEMENT = {"float16": 0.99, "int8": 0.9}
# Turns in which Keras and the runtime are timed, and seconds of each.
_TURNS, _TURN_SECONDS = 8, 0.1


def missing_activation(scores):
    """The activation that makes scores probabilities, `None` if they are."""
    if scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3:
        return None
    return "sigmoid" if scores.shape[1] == 1 else "softmax"


def activated(scores, activation):
    """The scores after `"softmax"`, `"sigmoid"` or `None`."""
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-scores))
    if activation == "softmax":
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
    return scores


def likeliest(probabilities):
    """The class of each row; of a single probability, whether it is above one half."""
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > 0.5).astype(int)
    return probabilities.argmax(axis=1)


def allowed_difference(model, in_float32=1e-4):
    """The largest difference of probabilities that the dtypes of a model's layers allow."""
    return max(TOLERANCE.get(one.compute_dtype, in_float32) for one in inner_layers(model))


def compare(expected, found):
    """The largest difference of any of `found`, and the least part of equal likeliest classes."""
    best = likeliest(expected)
    return {
        "largest_difference": max(float(np.abs(one - expected).max()) for one in found),
        "agreement": min(float((likeliest(one) == best).mean()) for one in found),
    }


def check_agreement(model, file_format, quantize, largest_difference, agreement):
    """Raises ExportError if what `compare` gave is not good enough for that quantization."""
    tolerance, least = allowed_difference(model), LEAST_AGREEMENT.get(quantize, 0)
    said = f"The {file_format} artefact predicts otherwise than Keras: "
    if not np.isfinite(largest_difference):
        raise ExportError(f"{said}its probabilities are not finite.")
    if quantize == "none" and largest_difference > tolerance:
        raise ExportError(
            f"{said}largest difference {largest_difference:.2g}, allowed {tolerance:.2g}."
        )
    if agreement < least:
        raise ExportError(
            f"{said}the likeliest class is the same for {agreement:.1%} of the images, "
            f"at least {least:.0%} are needed with {quantize}."
        )


def milliseconds_each(model, served, images, batch):
    """Median milliseconds for each image, of Keras and of the artefact."""
    images = np.resize(images, (batch, *images.shape[1:])).astype("float32")
    # The first calls compile.
    model.predict_on_batch(images)
    served.milliseconds(images, 0)
    keras_times, served_times = [], []
    for _ in range(_TURNS):
        keras_times += call_milliseconds(model.predict_on_batch, images, _TURN_SECONDS)
        served_times += served.milliseconds(images, _TURN_SECONDS)
    return tuple(float(np.median(times)) / batch for times in (keras_times, served_times))
