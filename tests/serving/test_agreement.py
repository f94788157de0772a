import keras
import numpy as np
import pytest

from keras_cbam.errors import ExportError
from keras_cbam.serving.agreement import activated, check_agreement, compare, missing_activation


@pytest.mark.parametrize(
    ("scores", "activation", "probabilities"),
    [
        ([[0.2, 0.8], [1, 0]], None, [[0.2, 0.8], [1, 0]]),
        ([[0, np.log(3)], [1000, 0]], "softmax", [[0.25, 0.75], [1, 0]]),
        ([[np.log(3)], [0]], "sigmoid", [[0.75], [0.5]]),
    ],
)
def test_scores_to_probabilities(scores, activation, probabilities):
    scores = np.array(scores, "float32")
    assert missing_activation(scores) == activation
    np.testing.assert_allclose(activated(scores, activation), probabilities, atol=1e-6)


def test_the_worst_is_compared():
    expected = np.array([[0.9, 0.1], [0.4, 0.6]])
    near, far = expected + np.array([0.01, -0.01]), np.array([[0.9, 0.1], [0.6, 0.4]])
    assert compare(expected, [near]) == {
        "largest_difference": pytest.approx(0.01),
        "agreement": 1.0,
    }
    assert compare(expected, [near, far]) == {
        "largest_difference": pytest.approx(0.2),
        "agreement": 0.5,
    }
    one = np.array([[0.4], [0.6]])
    assert compare(one, [one + 0.05])["agreement"] == 1
    assert compare(one, [one + 0.15])["agreement"] == 0.5


@pytest.mark.parametrize(
    ("dtype", "quantize", "difference", "agreement", "message"),
    [
        ("float32", "none", 1e-5, 1, None),
        ("float32", "none", 1e-3, 1, "largest difference 0.001, allowed 0.0001"),
        ("mixed_float16", "none", 1e-3, 1, None),
        ("mixed_bfloat16", "none", 0.1, 1, r"allowed 0\.05"),
        ("float32", "none", float("nan"), 1, "not finite"),
        ("float32", "float16", 0.1, 0.995, None),
        ("float32", "float16", 0.1, 0.98, "same for 98.0% of the images, at least 99%"),
        ("float32", "int8", 0.1, 0.91, None),
        ("float32", "int8", 0.1, 0.89, "at least 90% are needed with int8"),
    ],
)
def test_what_is_good_enough(dtype, quantize, difference, agreement, message):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype=dtype)])
    if message is None:
        check_agreement(model, "onnx", quantize, difference, agreement)
        return
    with pytest.raises(ExportError, match=f"onnx artefact predicts otherwise.*{message}"):
        check_agreement(model, "onnx", quantize, difference, agreement)
