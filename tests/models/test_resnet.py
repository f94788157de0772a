import functools

import keras
import numpy as np
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, find_sites
from keras_cbam.cost import count_multiply_adds, count_parameters
from keras_cbam.models import (
    MobileNet,
    ResNet,
    ResNet14,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNeXt50,
    ResNeXt101,
    WideResNet18,
)
from tests.checks import BACKEND, random_input, to_numpy

SMALL = {"stem": "cifar", "width": 0.125, "num_classes": 3, "input_shape": (32, 32, 3)}


@pytest.mark.parametrize(
    ("build", "depth", "arguments"),
    [
        (ResNet18, 18, {}),
        (ResNet34, 34, {}),
        (ResNet50, 50, {}),
        (ResNet101, 101, {}),
        (WideResNet18, 18, {"width": 2.0}),
        (ResNeXt50, 50, {"cardinality": 32, "base_width": 4}),
        (ResNeXt101, 101, {"cardinality": 32, "base_width": 4}),
    ],
)
def test_shorthands(build, depth, arguments, monkeypatch):
    calls = []
    monkeypatch.setattr("keras_cbam.models.resnet.ResNet", lambda *a, **k: calls.append((a, k)))
    build("se", num_classes=7)
    name = build.__name__.lower()
    assert calls == [((depth, "se"), {"name": name, "num_classes": 7, **arguments})]


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("attention", [None, "se", "cbam", "bam"])
def test_official_sites(depth, attention):
    model = ResNet(depth, attention, **SMALL)
    layer_class = {None: (), "se": ChannelAttention, "cbam": CBAM, "bam": BAM}[attention]
    found = [layer for layer in model.layers if isinstance(layer, layer_class)]
    assert len(found) == {None: 0, "se": 1, "cbam": 1}.get(attention, 0) * (
        8 if depth == 18 else 16
    ) + 3 * (attention == "bam")
    if attention in ("se", "cbam"):
        plain = ResNet(depth, None, **SMALL)
        assert [layer.name.rpartition("_")[0] for layer in found] == find_sites(plain)
    if attention == "bam":
        last = ("2", "3", "5") if depth == 50 else ("1", "1", "1")
        assert [layer.name for layer in found] == [
            f"layer{stage}_{block}_relu_bam" for stage, block in enumerate(last, 1)
        ]
        assert all(layer.combine == "multiply" for layer in found)
    assert model.output_shape == (None, 3)


def test_official_start():
    keras.utils.set_random_seed(0)
    model = ResNet18("cbam", stem="cifar", num_classes=10, input_shape=(32, 32, 3))
    for name, weights in {"conv1": 9 * 64, "layer3_0_conv1": 9 * 256}.items():
        kernel = to_numpy(model.get_layer(name).kernel)
        assert kernel.std() == pytest.approx((2 / weights) ** 0.5, rel=0.05)
    attention = model.get_layer("layer4_1_bn2_cbam")
    gate = attention.spatial_attention
    assert gate.use_batch_norm
    assert gate.batch_norm.epsilon == 1e-5
    assert np.all(to_numpy(gate.batch_norm.gamma) == 0)
    kernels = [layer.spatial_attention.kernel for layer in model.layers if isinstance(layer, CBAM)]
    kernels = np.concatenate([to_numpy(kernel).ravel() for kernel in kernels])
    assert kernels.std() == pytest.approx((2 / 49) ** 0.5, rel=0.1)
    hidden = to_numpy(attention.channel_attention.hidden_kernel)
    assert np.abs(hidden).max() == pytest.approx(512**-0.5, rel=0.01)
    assert to_numpy(model.get_layer("fc").kernel).std() == pytest.approx((2 / 512) ** 0.5, rel=0.1)
    # New gates halve what they see twice; the network does not start as the plain one.
    assert attention.identity_scale is None
    norm = model.get_layer("bn1")
    assert (norm.epsilon, norm.momentum) == (1e-5, 0.9)


@pytest.mark.parametrize(
    ("attention", "argument", "start"),
    [
        ("cbam", False, False),
        ("cbam", True, True),
        ("bam", True, True),
        (CBAM(start_as_identity=True), False, True),
        (CBAM(), True, True),
        ({"class_name": "cbam", "config": {"start_as_identity": False}}, True, False),
        (lambda: CBAM(start_as_identity=True), False, True),
        (CBAM, True, True),
    ],
)
def test_start_as_identity(attention, argument, start):
    for build in (lambda **given: ResNet(18, **given, **SMALL), mobilenet):
        model = build(attention=attention, start_as_identity=argument)
        found = [layer for layer in model.layers if isinstance(layer, (CBAM, BAM))]
        assert found
        assert all(layer.start_as_identity == start for layer in found)


def mobilenet(**arguments):
    return MobileNet(alpha=0.125, num_classes=3, input_shape=(32, 32, 3), **arguments)


def test_a_network_may_start_as_the_plain_one():
    plain = ResNet(18, None, **SMALL)
    model = ResNet(18, "cbam", start_as_identity=True, **SMALL)
    for layer in plain.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(to_numpy(model(x)), to_numpy(plain(x)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "attention",
    [
        CBAM(kernel_initializer="zeros"),
        BAM(kernel_initializer="zeros"),
        {"class_name": "cbam", "config": {"kernel_initializer": "zeros"}},
        functools.partial(BAM, kernel_initializer="zeros"),
        lambda: CBAM(kernel_initializer="zeros"),
    ],
)
def test_initializers_of_given_attention_are_kept(attention):
    model = ResNet(18, attention, **SMALL)
    found = [layer for layer in model.layers if isinstance(layer, (CBAM, BAM))]
    kernels = [weight for layer in found for weight in layer.weights if "kernel" in weight.name]
    assert len(kernels) >= 3 * len(found) > 0
    assert not any(to_numpy(kernel).any() for kernel in kernels)


def test_inputs_are_named_for_what_they_take():
    models = [ResNet(18, None, include_preprocessing=p, **SMALL) for p in (True, False)]
    assert [model.inputs[0].name for model in models] == ["pixels", "images"]


def test_stride_in_the_first_convolution():
    models = [
        ResNet(50, None, stride_in_first_1x1=first, width=0.25, input_shape=(64, 64, 3))
        for first in (False, True)
    ]
    for model, expected in zip(models, [(1, 2), (2, 1)]):
        strides = [model.get_layer(f"layer2_0_conv{i}").strides[0] for i in (1, 2)]
        assert tuple(strides) == expected
    assert count_parameters(models[0]) == count_parameters(models[1])
    assert count_multiply_adds(models[0]) > count_multiply_adds(models[1])


@pytest.mark.slow
def test_preprocessing_and_heads():
    arguments = {**SMALL, "attention": "cbam"}
    pixels = ResNet(18, **arguments)
    images = ResNet(18, **arguments, include_preprocessing=False)
    logits = ResNet(18, **arguments, classifier_activation=None)
    features = ResNet(18, **arguments, include_top=False)
    pooled = ResNet(18, **arguments, include_top=False, pooling="max")
    for model in (images, logits):
        model.set_weights(pixels.get_weights())
    for model in (features, pooled):
        model.set_weights(pixels.get_weights()[: len(model.get_weights())])
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    expected = to_numpy(pixels(x))
    np.testing.assert_allclose(expected.sum(-1), 1, rtol=0, atol=1e-6)
    scaled = (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(to_numpy(images(scaled)), expected, rtol=0, atol=1e-5)
    values = np.exp(to_numpy(logits(x)))
    np.testing.assert_allclose(values / values.sum(-1, keepdims=True), expected, atol=1e-5)
    maps = to_numpy(features(x))
    assert maps.shape == (2, 4, 4, 64)
    np.testing.assert_allclose(to_numpy(pooled(x)), maps.max((1, 2)), rtol=0, atol=1e-6)


def test_channels_first():
    last = ResNet(18, "cbam", **SMALL)
    keras.config.set_image_data_format("channels_first")
    try:
        assert ResNet(18, None, width=0.125, num_classes=3).input_shape == (None, 3, 224, 224)
        first = ResNet(18, "cbam", **{**SMALL, "input_shape": (3, 32, 32)})
        with pytest.raises(ValueError, match=r"the first, is 3.*input_shape=\(32, 3, 32\)"):
            ResNet(18, **{**SMALL, "input_shape": (32, 3, 32)})
        features = ResNet(18, None, **{**SMALL, "input_shape": (3, 32, 32)}, include_top=False)
    finally:
        keras.config.set_image_data_format("channels_last")
    assert features.output_shape == (None, 64, 4, 4)
    first.set_weights(last.get_weights())
    if BACKEND == "tensorflow":
        pytest.skip("TensorFlow's convolutions on the CPU take channels last only")
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    outputs = to_numpy(first(np.moveaxis(x, -1, 1)))
    np.testing.assert_allclose(outputs, to_numpy(last(x)), rtol=0, atol=1e-5)


def test_padding_is_alike_on_all_sides():
    # The last row and column are not alone in being cut off, so turned images give turned maps.
    model = ResNet(
        18, None, width=0.125, include_top=False, include_preprocessing=False,
        input_shape=(33, 33, 3),
    )  # fmt: skip
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = to_numpy(layer.kernel)
            layer.kernel.assign(kernel + kernel[::-1, ::-1])
    x = random_input((1, 33, 33, 3))
    turned = to_numpy(model(x[:, ::-1, ::-1]))[:, ::-1, ::-1]
    np.testing.assert_allclose(turned, to_numpy(model(x)), rtol=0, atol=1e-4 * np.abs(turned).max())


def test_unknown_sizes_and_mixed_precision(dtype_policy):
    dtype_policy("mixed_float16")
    model = ResNet(18, "cbam", **{**SMALL, "input_shape": (None, None, 3)})
    for size in (32, 40):
        outputs = model(np.full((1, size, size, 3), 128.0))
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        assert np.isfinite(to_numpy(outputs)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 19}, r"`depth` must be one of \(14, 18, 34, 50, 101\). Received: depth=19"),
        ({"stem": "small"}, "Received: stem='small'"),
        ({"width": 0}, "`width` must be a positive number. Received: width=0"),
        ({"width": "1"}, "Received: width='1'"),
        ({"num_classes": 0}, "Received: num_classes=0"),
        ({"input_shape": (32, 32, 1)}, r"Received: input_shape=\(32, 32, 1\)"),
        ({"input_shape": (32, 32)}, r"Received: input_shape=\(32, 32\)"),
        ({"cardinality": 0}, "Received: cardinality=0"),
        ({"depth": 18, "cardinality": 2}, "for the bottlenecks.*Received: depth=18, cardinality=2"),
        ({"attention": "cbm"}, "Did you mean 'cbam'"),
        ({"depth": [18]}, r"Received: depth=\[18\]"),
        ({"width": float("inf")}, "Received: width=inf"),
        ({"width": 0.001}, "leave no channels. Received: width=0.001"),
        ({"depth": 50, "base_width": 1, "width": 0.5}, "Received: width=0.5, base_width=1"),
        ({"input_shape": 32}, "Received: input_shape=32"),
        ({"input_shape": ("a", "b", 3)}, "Received: input_shape=.'a'"),
        ({"pooling": "sum"}, "Received: pooling='sum'"),
        ({"include_top": False, "pooling": "sum"}, "Received: pooling='sum'"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{"depth": 18, **SMALL, **arguments})


def test_three_stages_for_small_images():
    model = ResNet14(None, num_classes=10, input_shape=(32, 32, 3))
    # He et al., section 4.2: one 3x3 stem, 6 n 3x3 convolutions of 16, 32 and 64 channels.
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    kernels = [x.filters for x in convolutions if x.kernel_size == (3, 3)]
    assert kernels == [16] * 5 + [32] * 4 + [64] * 4
    assert model.get_layer("layer3_1_relu").output.shape[1:] == (8, 8, 64)
    assert len(find_sites(model)) == 6
