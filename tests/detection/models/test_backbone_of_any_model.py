import keras
import keras_hub
import numpy as np
import pytest

from keras_cbam import (
    CBAM,
    attention_backbone,
    attention_classifier,
    insert_attention,
    remove_attention,
)
from keras_cbam.detection import SSD, FasterRCNN, detection_backbone
from keras_cbam.insertion.backbones import GraphBackbone
from keras_cbam.models.mobilenet import MobileNet
from tests.detection.networks import IMAGES, level_names, strided, strided_model, tensors


def assert_levels_are_those_of(backbone, model, names):
    assert isinstance(backbone, keras_hub.models.FeaturePyramidBackbone)
    assert list(level_names(backbone).values()) == names
    for ours, theirs in zip(tensors(backbone, names), tensors(model, names), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_levels_are_the_last_tensors_of_their_strides():
    model = strided_model()
    backbone = detection_backbone(model)
    names = ["stage3_relu", "stage4_relu", "stage5_relu"]
    assert_levels_are_those_of(backbone, model, names)
    assert list(level_names(backbone)) == ["P3", "P4", "P5"]
    assert [layer.name for layer in backbone.layers if layer.name not in ("P3", "P4", "P5")] == [
        layer.name for layer in model.layers[:-2]
    ]
    assert backbone.output_shape == (None, 2, 2, 4)
    assert backbone.name == "strided"


def test_attended_tensors_are_the_levels():
    model = attention_backbone("MobileNet", weights=None, alpha=0.25, input_shape=(64, 64, 3))
    backbone = detection_backbone(model, levels=[2, 3, 4, 5])
    names = [f"conv_pw_{index}_relu_cbam" for index in (3, 5, 11, 13)]
    assert_levels_are_those_of(backbone, model, names)


def test_networks_of_the_paper():
    model = MobileNet(alpha=0.25, num_classes=3, input_shape=(64, 96, 3))
    backbone = detection_backbone(model)
    assert len(backbone.pyramid_outputs) == 3
    sizes = [
        tensor.shape[1:3]
        for tensor in tensors(backbone, level_names(backbone).values(), np.zeros((1, 64, 96, 3)))
    ]
    assert sizes == [(8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("input_shape", [(None, None, 3), (65, 33, 3), (32, 32, 1)])
def test_sizes_that_are_unknown_odd_or_small(input_shape):
    backbone = detection_backbone(strided_model(input_shape), levels=(5, 2))
    assert level_names(backbone) == {"P2": "stage2_relu", "P5": "stage5_relu"}


def test_sizes_that_the_strides_do_not_divide():
    """SSD takes them; Faster R-CNN's anchors, as RetinaNet's, are for sizes rounded up."""
    mobilenet = keras.applications.MobileNet(
        weights=None, alpha=0.25, input_shape=(65, 65, 3), include_top=False
    )
    backbone = detection_backbone(mobilenet)
    assert [level.shape[1] for level in backbone.pyramid_outputs.values()] == [8, 4, 2]
    model = SSD(backbone, 2, extra_filters=())
    assert len(model.default_boxes) == 6 * 64 + 4 * 16 + 4 * 4
    with pytest.raises(ValueError, match="divided by its stride, rounded up"):
        FasterRCNN(backbone, 2)


def test_output_of_a_block_before_the_inside_of_its_branch():
    x = inputs = keras.Input((64, 64, 3))
    x = strided(strided(x, "stage1"), "stage2")
    branch = keras.layers.Conv2D(2, 1, name="squeezed")(x)
    branch = keras.layers.Conv2D(4, 3, 2, padding="same")(branch)
    x = keras.layers.Add(name="add")([keras.layers.MaxPooling2D(2)(x), branch])
    backbone = detection_backbone(keras.Model(inputs, x), levels=(2, 3))
    assert level_names(backbone) == {"P2": "stage2_relu", "P3": "add"}


def test_classifier_of_raw_pixels_is_opened():
    model = attention_classifier("MobileNet", 3, weights=None, input_shape=(64, 64, 3), alpha=0.25)
    backbone = detection_backbone(model)
    names = list(level_names(backbone).values())
    assert not any(
        isinstance(layer, (keras.Model, keras.layers.Dense)) for layer in backbone.layers
    )
    nested = model.layers[-4]
    expected = tensors(nested, names, keras.applications.mobilenet.preprocess_input(IMAGES.copy()))
    for ours, theirs in zip(tensors(backbone, names), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not {id(v) for v in backbone.variables} & {id(v) for v in model.variables}


def test_nested_models_keep_their_mode_and_lose_equal_names():
    frozen, training = (
        keras.Sequential([keras.Input((64, 64, 3)), keras.layers.BatchNormalization(name="norm")])
        for _ in range(2)
    )
    frozen.trainable = False
    inputs = keras.Input((64, 64, 3))
    outputs = strided(training(frozen(inputs), training=True), "stage1")
    backbone = detection_backbone(keras.Model(inputs, outputs), levels=[1])
    assert [layer.name for layer in backbone.layers[1:3]] == ["norm", "norm_1"]
    assert [layer.trainable for layer in backbone.layers[1:3]] == [False, True]
    normalized = keras.Model(backbone.input, backbone.get_layer("norm_1").output)(IMAGES)
    np.testing.assert_allclose(np.std(normalized, axis=(0, 1, 2)), 1, atol=1e-3)


def test_levels_that_are_not_the_only_output_of_a_layer():
    inputs = keras.Input((64, 64, 3))
    shared = keras.layers.Conv2D(4, 3, padding="same", name="shared")
    x = shared(shared(strided(inputs, "stage1")))
    y = strided(x, "stage2")
    y, _ = CBAM(name="scored")(y, return_attention_scores=True)
    z = strided(y, "stage3")
    model = keras.Model(inputs, z + 1.0)
    backbone = detection_backbone(model, levels=[1, 2, 3])
    assert [layer.name for layer in backbone.layers if layer.name[0] == "P"] == ["P1", "P2", "P3"]
    expected = keras.Model(inputs, [x, y, z + 1.0])(IMAGES)
    for ours, theirs in zip(tensors(backbone, ["P1", "P2", "P3"]), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_levels_beside_the_way_to_the_highest():
    x = inputs = keras.Input((64, 64, 3))
    skip = strided(x, "stage1")
    x = keras.layers.UpSampling2D(2)(strided(skip, "stage2"))
    x = keras.layers.Concatenate(name="decoder")([skip, x])
    backbone = detection_backbone(keras.Model(inputs, x), levels=[1, 2])
    assert level_names(backbone) == {"P1": "decoder", "P2": "stage2_relu"}
    assert {name: tuple(t.shape) for name, t in backbone(IMAGES).items()} == {
        "P1": (2, 32, 32, 8),
        "P2": (2, 16, 16, 4),
    }


def test_policies_and_flags_are_kept(dtype_policy):
    dtype_policy("mixed_bfloat16")
    model = strided_model()
    dtype_policy("float32")
    model.get_layer("stage1_conv").trainable = False
    backbone = detection_backbone(model)
    assert backbone.get_layer("stage5_norm").compute_dtype == "bfloat16"
    assert [layer.name for layer in backbone.layers if not layer.trainable] == ["stage1_conv"]


def test_saved_and_loaded(tmp_path):
    model = insert_attention(strided_model(), where=".*relu", start_as_identity=False)
    model.get_layer("stage1_conv").trainable = False
    backbone = detection_backbone(model)
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    assert [layer.name for layer in loaded.layers if not layer.trainable] == ["stage1_conv"]
    assert_levels_are_those_of(loaded, model, [f"stage{n}_relu_cbam" for n in (3, 4, 5)])
    plain = remove_attention(loaded)
    assert level_names(plain) == {f"P{n}": f"stage{n}_relu" for n in (3, 4, 5)}


def test_saved_graph_of_an_unknown_library():
    config = detection_backbone(strided_model()).get_config()
    with pytest.raises(ValueError, match="Received: library='torch'"):
        detection_backbone(strided_model(), library="torch")
    with pytest.raises(ValueError, match=r"not known.*Received: kind='other>Backbone'"):
        GraphBackbone.from_config({**config, "kind": "other>Backbone"})


def test_what_cannot_be_a_backbone():
    model = strided_model()
    with pytest.raises(ValueError, match=r"for level 6.*levels 1 .stride 2., 2 .*levels=\(3, 6\)"):
        detection_backbone(model, levels=(6, 3))
    for levels in ((), 3, (0, 1), (3, 3), (3.0,), (True,), "345"):
        with pytest.raises(ValueError, match="Received: levels="):
            detection_backbone(model, levels)
    with pytest.raises(ValueError, match=r"subclassed.*Received"):
        detection_backbone(CBAM())
    with pytest.raises(ValueError, match=r"without an input shape.*Received"):
        detection_backbone(keras.Sequential([keras.layers.Dense(2)]))
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    with pytest.raises(ValueError, match=r"one input.*Received: a model with the input shapes"):
        detection_backbone(keras.Model(inputs, keras.layers.Add()(inputs)))
    inputs = keras.Input((3, 64, 64))
    first = keras.layers.Conv2D(4, 3, data_format="channels_first")(inputs)
    with pytest.raises(ValueError, match=r"channels last.*data_format='channels_first'"):
        detection_backbone(keras.Model(inputs, first))
    inputs = keras.Input((64, 64, 3))
    tokens = keras.layers.Reshape((32, 128, 3), name="tokens")(inputs)
    with pytest.raises(ValueError, match="do not count; the first is 'tokens'"):
        detection_backbone(keras.Model(inputs, strided(tokens, "stage1")), [1])
