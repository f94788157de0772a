import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, attention_backbone, attention_classifier
from keras_cbam.applications import application_cost
from keras_cbam.cost import count_multiply_adds, count_parameters

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype="uint8")
SMALL = {"weights": None, "input_shape": (32, 32, 3)}


def test_backbone_has_attention_and_no_classifier():
    backbone = attention_backbone("MobileNetV2", alpha=0.35, **SMALL)
    assert backbone.output_shape == (None, 1, 1, 1280)
    assert sum(isinstance(layer, CBAM) for layer in backbone.layers) == 17
    plain = attention_backbone("MobileNetV2", attention=None, alpha=0.35, **SMALL)
    assert not any(isinstance(layer, CBAM) for layer in plain.layers)


@pytest.mark.parametrize("name", ["ResNet50V2", "ResNet50", "MobileNet"])
def test_classifier_takes_pixels(name):
    model = attention_classifier(name, 3, dropout=0.0, **SMALL)
    backbone = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    application = sys.modules[getattr(keras.applications, name).__module__]
    features = backbone(application.preprocess_input(PIXELS.astype("float32")))
    expected = model.get_layer("probabilities")(ops.mean(features, axis=(1, 2)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(PIXELS)), ops.convert_to_numpy(expected), atol=1e-6
    )
    totals = ops.convert_to_numpy(ops.sum(model(PIXELS), axis=-1))
    np.testing.assert_allclose(totals, 1, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_probabilities_are_float32(policy, dtype_policy):
    dtype_policy(policy)
    model = attention_classifier("MobileNet", 2, alpha=0.25, **SMALL)
    assert keras.backend.standardize_dtype(model(PIXELS).dtype) == "float32"


def test_classifier_round_trip(tmp_path):
    model = attention_classifier("ResNet50", 2, where="conv5_.*_3_bn", **SMALL)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(reloaded(PIXELS)), ops.convert_to_numpy(model(PIXELS)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ResNet5"}, "Did you mean .*'ResNet50'"),
        ({"name": "VisionTransformer"}, "Unknown model of keras.applications. Known: "),
        ({"num_classes": 1}, "Received: num_classes=1"),
        ({"num_classes": 2.0}, "Received: num_classes=2.0"),
        ({"dropout": 1.0}, "Received: dropout=1.0"),
        ({"attention": "cbma"}, "Did you mean 'cbam'"),
        ({"include_top": True}, "`include_top` is set by"),
        ({"weights": "no_such_file.npz"}, "Received: weights='no_such_file.npz'"),
    ],
)
def test_bad_arguments(arguments, message):
    arguments = {"name": "MobileNet", "num_classes": 3, "alpha": 0.25, **SMALL, **arguments}
    with pytest.raises(ValueError, match=message):
        attention_classifier(**arguments)


def test_cost_with_and_without_attention():
    cost = application_cost("MobileNetV3Small", "se", image_size=64)
    assert cost["model"] == "MobileNetV3Small"
    assert cost["image_size"] == 64
    assert len(cost["sites"]) == 11
    model = keras.applications.MobileNetV3Small(weights=None)
    plain, ours = cost["plain"], cost["with_attention"]
    assert plain["parameters"] == count_parameters(model)
    assert plain["multiply_adds"] == count_multiply_adds(model, (64, 64, 3))
    more = [row for row in ours["layers"] if row.name.endswith("_se")]
    assert len(more) == 11
    for key in ("parameters", "multiply_adds"):
        assert ours[key] - plain[key] == sum(getattr(row, key) for row in more)
    assert application_cost("MobileNetV3Small", where=["conv_bn"])["image_size"] == 224
