"""The residual networks of the CBAM paper, and one for small images."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_cbam._types import Activation, Attention
from keras_cbam.errors import one_of, positive_integer
from keras_cbam.models.building import conv, network_inputs, norm, padded, with_attention, with_top

# Blocks in each stage, and whether they are bottlenecks. Three stages are for small images.
DEPTHS = {
    14: ((2, 2, 2), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}


def ResNet(
    depth: int,
    attention: Attention = "cbam",
    width: float = 1.0,
    cardinality: int = 1,
    base_width: int = 64,
    stem: str = "imagenet",
    stride_in_first_1x1: bool = False,
    num_classes: int = 1000,
    include_top: bool = True,
    input_shape: tuple[int | None, ...] | None = None,
    include_preprocessing: bool = True,
    pooling: str | None = None,
    classifier_activation: Activation = "softmax",
    start_as_identity: bool = False,
    name: str | None = None,
) -> keras.Model:
    """A residual network of the CBAM paper, with attention as its official code has it.

    Depth 14 is not the paper's: it has three stages of 16, 32 and 64 channels, as He et al. build
    them for CIFAR-10 (section 4.2, n = 2), so that images of 32 pixels end in maps of 8 x 8.

    The layers have the names of the official code, with underscores: `layer1_0_conv1`. Padding and
    batch normalization are PyTorch's, initializers He's.

    Args:
        depth: int, 14, 18 or 34 (blocks of two 3x3 convolutions), 50 or 101 (bottlenecks).
        attention: `"cbam"` (with batch normalization after the 7x7) or `"se"`, at the end of each
            residual branch; `"bam"` (branches multiplied), after each stage except the
            last; or anything else that `insert_attention` takes, at the end of each residual
            branch. Only attention that is named is as in the official code, its start too. Defaults
            to `"cbam"`.
        width: float, factor of the channels of all blocks, not of the stem. Defaults to `1.0`.
        cardinality: int, groups of a bottleneck's 3x3 convolution. Defaults to `1`.
        base_width: int, channels of a group for each 64 of the stage: a bottleneck's inner width is
            `channels * base_width // 64 * cardinality`. Defaults to `64`.
        stem: `"imagenet"` (7x7 with stride 2, maximum pooling) or `"cifar"` (3x3). Defaults to
            `"imagenet"`.
        stride_in_first_1x1: bool, whether a bottleneck strides in its first 1x1 convolution, as
            the paper counts, or in the 3x3, as the released checkpoints do. Defaults to `False`.
        num_classes: int. Defaults to `1000`.
        include_top: bool, whether average pooling and the classifier follow. Defaults to `True`.
        input_shape: tuple `(height, width, 3)`, or `(3, height, width)` in Keras' data format
            `"channels_first"`; the sizes may be `None`. Defaults to `None`: 224 x 224.
        include_preprocessing: bool, whether the model normalizes pixels in [0, 255] by ImageNet's
            mean and deviation; else it takes normalized images. Defaults to `True`.
        pooling: `"avg"`, `"max"` or `None`, if `include_top=False`. Defaults to `None`.
        classifier_activation: activation of the classifier, which is float32 under every dtype
            policy; `None` for logits. Defaults to `"softmax"`.
        start_as_identity: bool, whether the attention returns its inputs until it is trained. A key
            in a config, what a layer that a callable returns has, and a given layer's `True` are
            kept. Defaults to `False`.
        name: string, name of the model. Defaults to `None`.

    Returns:
        A Functional `keras.Model` with random weights; see `load_pytorch_checkpoint`.

    Raises:
        ValueError: if an argument is outside its range; see also `insert_attention`.

    Example:

    >>> model = ResNet(18, stem="cifar", width=0.25, num_classes=10, input_shape=(32, 32, 3))
    >>> model.output_shape
    (None, 10)

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), section 4 and table 4
    - [He et al., Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385)
    """
    if not isinstance(depth, int) or depth not in DEPTHS:
        raise ValueError(f"`depth` must be one of {tuple(DEPTHS)}. Received: depth={depth!r}")
    one_of("imagenet", "cifar")("stem", stem)
    inputs, x = network_inputs(
        "width", width, num_classes, input_shape, include_preprocessing, pooling
    )
    positive_integer("cardinality", cardinality)
    positive_integer("base_width", base_width)
    blocks, is_bottleneck = DEPTHS[depth]
    channels = 16 if len(blocks) == 3 else 64
    if not is_bottleneck and (cardinality, base_width) != (1, 64):
        raise ValueError(
            "`cardinality` and `base_width` are for the bottlenecks of depths 50 and 101. "
            f"Received: depth={depth}, cardinality={cardinality}, base_width={base_width}"
        )
    if int(channels * width) * base_width // 64 < 1:
        raise ValueError(
            "`width` and `base_width` leave no channels. "
            f"Received: width={width}, base_width={base_width}"
        )
    x = _stem(x, stem, channels)
    for stage, count in enumerate(blocks):
        planes = int(channels * 2**stage * width)
        for block in range(count):
            strides = 2 if stage > 0 and block == 0 else 1
            if is_bottleneck:
                inner = planes * base_width // 64 * cardinality
                first, second = (strides, 1) if stride_in_first_1x1 else (1, strides)
                convolutions = [(inner, 1, first, 1), (inner, 3, second, cardinality)]
                convolutions.append((4 * planes, 1, 1, 1))
            else:
                convolutions = [(planes, 3, strides, 1), (planes, 3, 1, 1)]
            x = residual_block(x, f"layer{stage + 1}_{block}", convolutions, strides)
    outputs = with_top(x, include_top, pooling, num_classes, classifier_activation)
    model = keras.Model(inputs, outputs, name=name or f"resnet{depth}")
    if attention == "bam":
        where = [f"layer{stage + 1}_{blocks[stage] - 1}_relu" for stage in range(len(blocks) - 1)]
    else:
        where = rf"^layer\d_\d+_bn{len(convolutions)}$"
    return with_attention(model, attention, where, start_as_identity)


def _stem(x, stem, channels):
    if stem == "cifar":
        return keras.layers.ReLU(name="relu")(norm(conv(x, channels, 3, "conv1"), "bn1"))
    x = keras.layers.ReLU(name="relu")(norm(conv(x, channels, 7, "conv1", strides=2), "bn1"))
    # A ReLU's outputs are not negative: zeros around them are as good as PyTorch's -inf.
    return keras.layers.MaxPooling2D(3, strides=2, name="maxpool")(padded(x, 3, "maxpool"))


def residual_block(x: Any, name: str, convolutions: list[tuple], strides: int) -> Any:
    """A residual block; each of `convolutions` is its filters, kernel size, strides and groups."""
    shortcut = x
    for i, (filters, size, stride, groups) in enumerate(convolutions, 1):
        if i > 1:
            x = keras.layers.ReLU(name=f"{name}_relu{i - 1}")(x)
        x = norm(conv(x, filters, size, f"{name}_conv{i}", stride, groups), f"{name}_bn{i}")
    if strides > 1 or shortcut.shape != x.shape:
        shortcut = conv(shortcut, filters, 1, f"{name}_downsample_0", strides)
        shortcut = norm(shortcut, f"{name}_downsample_1")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _shorthand(name, depth, **fixed) -> Callable[..., keras.Model]:
    def build(attention="cbam", **arguments):
        return ResNet(depth, attention, **{"name": name.lower(), **fixed, **arguments})

    given = "".join(f", {key}={value!r}" for key, value in fixed.items())
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"`ResNet({depth}{given})` with further arguments of `ResNet`."
    signature = inspect.signature(ResNet)
    _, *rest = signature.parameters.values()
    rest = [p.replace(default=fixed.get(p.name, p.default)) for p in rest]
    build.__signature__ = signature.replace(parameters=rest)
    return build


ResNet14 = _shorthand("ResNet14", 14, stem="cifar")
ResNet18 = _shorthand("ResNet18", 18)
ResNet34 = _shorthand("ResNet34", 34)
ResNet50 = _shorthand("ResNet50", 50)
ResNet101 = _shorthand("ResNet101", 101)
WideResNet18 = _shorthand("WideResNet18", 18, width=2.0)
ResNeXt50 = _shorthand("ResNeXt50", 50, cardinality=32, base_width=4)
ResNeXt101 = _shorthand("ResNeXt101", 101, cardinality=32, base_width=4)
