import functools
import sys
from urllib.error import URLError

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, attention_backbone, attention_classifier
from keras_cbam._compat import inner_layers
from keras_cbam.applications import application_cost
from keras_cbam.cost import count_multiply_adds, count_parameters
from keras_cbam.errors import WeightsError

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


def gates(model):
    return [layer for layer in inner_layers(model) if isinstance(layer, CBAM)]


def test_start_as_identity():
    small = {**SMALL, "where": ["conv_pw_1_relu"], "alpha": 0.25}
    for build in (attention_backbone, functools.partial(attention_classifier, num_classes=2)):
        for is_identity in (True, False):
            model = build("MobileNet", start_as_identity=is_identity, **small)
            assert [gate.start_as_identity for gate in gates(model)] == [is_identity]
    counts = [
        application_cost("MobileNet", where=["conv_pw_1_relu"], start_as_identity=is_identity)
        for is_identity in (True, False)
    ]
    scales = [count["with_attention"]["parameters"] for count in counts]
    assert scales[0] - scales[1] == 2


def test_names_in_any_case():
    model = attention_backbone("mobilenetv2", None, alpha=0.35, **SMALL)
    assert model.name == attention_backbone("MobileNetV2", None, alpha=0.35, **SMALL).name
    assert attention_classifier("MOBILENET", 2, None, alpha=0.25, **SMALL).output_shape == (None, 2)
    assert application_cost("mobilenet", image_size=32)["model"] == "MobileNet"


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ConvNeXtTiny", "MobileNetV3Small"])
def test_preprocessing_cannot_be_left_out_of_a_classifier(name):
    message = r"`include_preprocessing` is set by .*Received: include_preprocessing=False"
    with pytest.raises(ValueError, match=message):
        attention_classifier(name, 3, include_preprocessing=False, **SMALL)


@pytest.mark.parametrize("error", [URLError("no network"), TimeoutError("timed out")])
def test_without_a_network(error, monkeypatch, tmp_path):
    def fail(*_):
        raise error

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fail)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    with pytest.raises(WeightsError) as found:
        attention_backbone("MobileNetV2", input_shape=(96, 96, 3))
    message = str(found.value)
    assert message.startswith("The ImageNet weights cannot be downloaded: ")
    assert "\n" not in message
    assert message.endswith("(`weights=None`), or weights from a file (its path as `weights`).")


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
    none = application_cost("MobileNetV3Small", None, image_size=64)
    assert none["sites"] == []
    assert none["with_attention"] == none["plain"]
