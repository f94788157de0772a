import keras
import numpy as np
import pytest

from keras_cbam import CBAM, find_sites, insert_attention
from keras_cbam.insertion.sites import select_sites


def application(name, **arguments):
    return getattr(keras.applications, name)(
        weights=None, include_top=False, input_shape=(75, 75, 3), **arguments
    )


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("ResNet50", "conv2_block1_3_bn", "conv5_block3_3_bn", 16),
        ("ResNet50V2", "conv2_block1_3_conv", "conv5_block3_3_conv", 16),
        ("Xception", "block2_pool", "block13_pool", 12),
        ("MobileNet", "conv_dw_1_relu", "conv_pw_13_relu", 26),
        ("MobileNetV2", "expanded_conv_project_BN", "block_16_project_BN", 17),
        ("MobileNetV3Small", "expanded_conv_project_bn", "expanded_conv_10_project_bn", 11),
        ("EfficientNetB0", "block1a_project_bn", "block7a_project_bn", 16),
        ("EfficientNetV2B0", "block1a_project_activation", "block6h_project_bn", 21),
        (
            "ConvNeXtTiny",
            "convnext_tiny_stage_0_block_0_pointwise_conv_2",
            "convnext_tiny_stage_3_block_2_pointwise_conv_2",
            18,
        ),
        ("DenseNet121", "conv2_block1_2_conv", "conv5_block16_2_conv", 58),
        ("InceptionV3", "mixed0", "mixed10", 11),
        pytest.param("InceptionResNetV2", "mixed_5b", "block8_10_conv", 43, marks=pytest.mark.slow),
        pytest.param(
            "NASNetMobile",
            "reduction_concat_stem_1",
            "normal_concat_12",
            16,
            marks=pytest.mark.slow,
        ),
        ("VGG16", "block1_conv2", "block5_conv3", 5),
        ("VGG19", "block1_conv2", "block5_conv4", 5),
    ],
)
def test_sites_of_the_families(name, first, last, count):
    if keras.backend.backend() == "jax" and not name.startswith(("MobileNet", "ResNet50", "VGG")):
        pytest.skip("JAX compiles the initial weights of large models; the names are the same")
    if keras.backend.backend() == "torch" and name.startswith("NASNet"):
        pytest.skip("Keras has no NASNet on PyTorch")
    sites = find_sites(application(name))
    assert (sites[0], sites[-1], len(sites)) == (first, last, count)


def conv(filters, name, **arguments):
    return keras.layers.Conv2D(filters, 3, padding="same", name=name, **arguments)


def block(x, name, add):
    branch = conv(4, f"{name}_a", activation="relu")(x)
    return add(x, conv(4, f"{name}_b")(branch))


@pytest.mark.parametrize(
    "add",
    [
        lambda x, y: keras.layers.Add()([x, y]),
        lambda x, y: keras.layers.Add()([y, x]),
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: keras.ops.add(x, y),
        lambda x, y: x + 0.5 * y,
        lambda x, y: x + keras.ops.relu(y),
    ],
)
def test_additions_as_layers_and_operators(add):
    inputs = keras.Input((8, 8, 4))
    outputs = block(block(inputs, "first", add), "second", add)
    assert find_sites(keras.Model(inputs, outputs)) == ["first_b", "second_b"]


def test_residual_networks_with_names_of_other_families():
    inputs = keras.Input((8, 8, 4))
    x = inputs
    for name in ("block1_conv", "mixed"):
        branch = conv(4, f"{name}1")(x)
        branch = keras.layers.BatchNormalization(name=f"{name}_bn")(branch)
        x = keras.layers.Add()([x, branch])
    assert find_sites(keras.Model(inputs, x)) == ["block1_conv_bn", "mixed_bn"]


def test_what_only_drops_is_passed_over():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Dropout(0.2)(conv(4, "branch")(inputs))
    x = keras.layers.Activation("linear")(keras.layers.SpatialDropout2D(0.2)(x))
    assert find_sites(keras.Model(inputs, inputs + x)) == ["branch"]
    activated = keras.layers.Activation("relu", name="relu")(conv(4, "branch")(inputs))
    assert find_sites(keras.Model(inputs, inputs + activated)) == ["relu"]


def test_projected_shortcut_is_not_the_branch():
    inputs = keras.Input((8, 8, 4))
    branch = conv(6, "branch_2")(conv(6, "branch_1")(inputs))
    outputs = keras.layers.Add()([conv(6, "shortcut")(inputs), branch])
    assert find_sites(keras.Model(inputs, outputs)) == ["branch_2"]


def test_feature_pyramid_additions_are_not_residual():
    inputs = keras.Input((16, 16, 4))
    fine = block(inputs, "fine", lambda x, y: x + y)
    coarse = conv(4, "down", strides=2)(fine)
    coarse = block(coarse, "coarse", lambda x, y: x + y)
    top_down = keras.layers.UpSampling2D(name="up")(conv(4, "lateral_coarse")(coarse))
    outputs = keras.layers.Add()([conv(4, "lateral_fine")(fine), top_down])
    assert find_sites(keras.Model(inputs, outputs)) == ["fine_b", "coarse_b"]


def test_nested_models_are_searched():
    inner_inputs = keras.Input((8, 8, 4))
    inner = keras.Model(inner_inputs, block(inner_inputs, "x", lambda x, y: x + y), name="inner")
    inputs = keras.Input((8, 8, 4))
    outputs = keras.Sequential([keras.Input((8, 8, 4)), inner], name="outer")(inputs)
    assert find_sites(keras.Model(inputs, outputs)) == ["outer/inner/x_b"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("^conv_pw_1_relu$", ["conv_pw_1_relu"]),
        ("conv_pw_1", ["conv_pw_1"]),
        ("conv_pw_1[23]_relu", ["conv_pw_12_relu", "conv_pw_13_relu"]),
        (["conv_pw_13_relu", "conv1_relu"], ["conv_pw_13_relu", "conv1_relu"]),
        (("conv1",), ["conv1"]),
        (lambda layer: layer.name.endswith("13_bn"), ["conv_dw_13_bn", "conv_pw_13_bn"]),
    ],
)
def test_where(where, expected):
    assert list(select_sites(application("MobileNet", alpha=0.25), where)) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "conv_pw",
            "None of the 85 layers that `where` could choose matches 'conv_pw' by its whole name "
            "or path. Did you mean 'conv_pw_9' or .*Received: where='conv_pw'",
        ),
        (
            ["conv1", "conv_1"],
            "could choose matches 'conv_1' by its whole name.*Did you mean 'conv1'",
        ),
        (lambda layer: False, "could choose matches. Known: 'conv1', .* and 75 more. Received"),
        ([], "could choose matches. Known: 'conv1', .* and 75 more. Received"),
        ("(", "not a valid regular expression"),
        (None, "Received: where=None"),
        (3, "Received: where=3"),
    ],
)
def test_nothing_chosen_lists_what_could_be(where, message):
    with pytest.raises(ValueError, match=message):
        insert_attention(application("MobileNet", alpha=0.25), where=where)


def test_model_without_sites():
    inputs = keras.Input((8, 8, 4))
    with pytest.raises(ValueError, match=r"Pass `where`. Known: 'plain'"):
        find_sites(keras.Model(inputs, conv(4, "plain")(inputs)))
    inputs = keras.Input((8,))
    with pytest.raises(ValueError, match="It has no layer with spatial axes"):
        find_sites(keras.Model(inputs, keras.layers.Dense(2)(inputs)))


def test_model_of_attention_only():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, CBAM()(inputs))
    for where in ("auto", "cbam"):
        with pytest.raises(ValueError, match="All of its layers with spatial axes are attention"):
            insert_attention(model, where=where)


def test_patterns_match_the_names_of_nested_layers():
    inner_inputs = keras.Input((8, 8, 4))
    outputs = conv(4, "conv10")(conv(4, "conv1")(inner_inputs))
    inner = keras.Model(inner_inputs, outputs, name="inner")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, conv(4, "conv1")(inner(inputs)))
    for where in ("conv1", "^conv1$", ["conv1"]):
        assert list(select_sites(model, where)) == ["inner/conv1", "conv1"]
    assert list(select_sites(model, "inner/.*")) == ["inner/conv1", "inner/conv10"]
    with pytest.raises(
        ValueError, match=r"None of the 4 layers .* Did you mean 'conv1' or 'conv10'"
    ):
        insert_attention(model, where="conv11")


def test_a_name_is_not_a_model():
    with pytest.raises(ValueError, match=r"attention_backbone.*Received: 'ResNet50'"):
        find_sites("ResNet50")


def test_subclassed_model_says_how_to_get_a_functional_one():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"Rebuild it as `keras.Model\(inputs, outputs\)`"):
        find_sites(Subclassed())
    with pytest.raises(ValueError, match=r"start it with a `keras\.Input`"):
        find_sites(keras.Sequential([conv(4, "a")]))


def test_attention_is_never_a_site():
    model = insert_attention(application("MobileNet", alpha=0.25))
    chosen = select_sites(model, "conv_pw_13_relu")
    assert list(chosen) == ["conv_pw_13_relu"]
    assert not any(isinstance(layer, CBAM) for layer in chosen.values())


def hub_backbone(name):
    models = pytest.importorskip("keras_hub", reason="needs keras_hub").models
    shape = {"image_shape": (64, 64, 3)}
    if name == "DenseNet":
        return models.DenseNetBackbone([2, 2, 2], compression_ratio=0.5, growth_rate=4, **shape)
    if name == "VGG":
        return models.VGGBackbone([2, 3, 3], [8, 16, 16], **shape)
    if name == "Xception":
        filters = [[8, 16], [32, 32], [48, 48], [48, 48, 48], [48, 64], [64, 64]]
        return models.XceptionBackbone(filters, [False, True, True, False, True, False], **shape)
    stages = {
        "expansion": [[40, 56], [64, 144]],
        "num_filters": [[16, 16], [24, 24]],
        "kernel_size": [[3, 3], [5, 5]],
        "num_strides": [[2, 1], [2, 1]],
        "se_ratio": [[None, None], [0.25, 0.25]],
        "activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
        "padding": [[1, 1], [2, 2]],
        "num_blocks": [2, 2],
    }
    return models.MobileNetBackbone(
        **{f"stackwise_{key}": value for key, value in stages.items()},
        output_num_filters=96,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=96,
        squeeze_and_excite=0.5,
        **shape,
    )


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DenseNet", [f"stack{stage}_block{block}_2_conv" for stage in "123" for block in "12"]),
        ("VGG", ["block1_conv2", "block2_conv3", "block3_conv3"]),
        ("Xception", ["block2_pool", "block3_pool", "block4_sepconv3_bn", "block5_pool"]),
        ("MobileNet", [f"block_{n}" for n in ("0_0", "1_0", "1_1", "2_0", "2_1", "3_0")]),
    ],
)
def test_sites_of_backbones_of_keras_hub(name, expected):
    backbone = hub_backbone(name)
    assert find_sites(backbone) == expected
    copy = insert_attention(backbone)
    assert isinstance(copy, type(backbone))
    images = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype("float32")
    difference = keras.ops.max(keras.ops.abs(copy(images) - backbone(images)))
    assert float(difference) == 0
