"""Backbones of detectors, from pixels to feature maps."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_cbam._types import Attention
from keras_cbam.applications import attention_backbone, preprocessing_of
from keras_cbam.detection.models.backbone_of_any_model import backbone_of_graph, detection_backbone
from keras_cbam.errors import one_of
from keras_cbam.files.weight_files import downloading_weights
from keras_cbam.models.building import conv, norm, preprocessed, with_attention
from keras_cbam.models.resnet import residual_block

# Filters and residual blocks of the stages, and filters and convolutions of the blocks.
_SMALL_STAGES = ((32, 1), (64, 2), (128, 2), (256, 1))
_VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_VGG16_UNITS = 1024


def application_backbone(
    name: str,
    input_shape: tuple[int, int, int] = (300, 300, 3),
    attention: Attention = None,
    weights: str | None = "imagenet",
    levels: Sequence[int] = (3, 4, 5),
    **kwargs: Any,
) -> Any:
    """A network of `keras.applications`, from raw pixels to a feature pyramid.

    Args:
        name: string, name in `keras.applications`.
        input_shape: tuple `(height, width, 3)`. Defaults to `(300, 300, 3)`.
        attention: see `insert_attention`; starts as an identity. Defaults to `None`.
        weights: see `attention_backbone`. Defaults to `"imagenet"`.
        levels: tuple of ints: level k has a stride of `2**k` pixels. Defaults to `(3, 4, 5)`.
        **kwargs: of the function in `keras.applications`: `alpha=0.5`.

    Returns:
        A backbone, see `detection_backbone`, that takes pixels in [0, 255].

    Raises:
        ValueError: see `attention_backbone` and `detection_backbone`.

    Example:

    >>> backbone = application_backbone("MobileNet", (96, 96, 3), weights=None, alpha=0.25)
    """
    pixels = preprocessing_of(name)(keras.Input(input_shape, name="pixels"))
    model = attention_backbone(
        name, attention=attention, weights=weights, input_tensor=pixels, **kwargs
    )
    return detection_backbone(model, levels)


def small_backbone(
    input_shape: tuple[int, int, int] = (96, 96, 3),
    attention: Attention = None,
    levels: Sequence[int] = (3, 4, 5),
) -> Any:
    """A residual network for images of about 100 pixels, from random weights.

    Two 3x3 convolutions with stride 2, of 16 and 32 channels, then ResNet's blocks of two: one of
    32 channels at stride 4, two of 64 at 8, two of 128 at 16, one of 256 at 32.

    Args:
        input_shape, levels: see `application_backbone`, as for what is returned.
        attention: see `insert_attention`; in each block, not as an identity. Defaults to `None`.

    Example:

    >>> small_backbone(attention="cbam", levels=(3, 4)).pyramid_outputs["P4"].shape
    (None, 6, 6, 128)
    """
    pixels = keras.Input(input_shape, name="pixels")
    x = preprocessed(pixels, include_preprocessing=True)
    for i, filters in enumerate((16, 32), 1):
        x = norm(conv(x, filters, 3, f"conv{i}", strides=2), f"bn{i}")
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    for stage, (filters, blocks) in enumerate(_SMALL_STAGES, 1):
        for block in range(blocks):
            strides = 2 if stage > 1 and block == 0 else 1
            convolutions = [(filters, 3, strides, 1), (filters, 3, 1, 1)]
            x = residual_block(x, f"layer{stage}_{block}", convolutions, strides)
    model = with_attention(keras.Model(pixels, x, name="small"), attention, r"^layer\d_\d_bn2$")
    return detection_backbone(model, levels)


def ssd_vgg16(
    input_shape: tuple[int, int, int] = (300, 300, 3), weights: str | None = "imagenet"
) -> Any:
    """The VGG16 of SSD300: normalized conv4_3, and the fully connected layers as convolutions.

    fc6 is a 3x3 convolution with dilation 6, fc7 a 1x1 convolution. The feature map of conv4_3 is
    divided at each position by its Euclidean norm, and scaled by a trainable factor that starts at
    20 ([ParseNet](https://arxiv.org/abs/1506.04579)).

    Args:
        input_shape: see `application_backbone`, as for what is returned.
        weights: `"imagenet"`: `keras.applications.VGG16`'s, of which the fully connected layers are
            subsampled to the convolutions; `None`: random. Defaults to `"imagenet"`.

    Raises:
        ValueError: if `weights` is neither.

    Source: [Liu et al., SSD](https://arxiv.org/abs/1512.02325), section 3.
    """
    one_of("imagenet", None)("weights", weights)
    pixels = keras.Input(input_shape, name="pixels")
    x = keras.applications.vgg16.preprocess_input(pixels)
    for block, (filters, convolutions) in enumerate(_VGG16_BLOCKS, 1):
        for i in range(1, convolutions + 1):
            x = _relu_conv(x, filters, 3, f"block{block}_conv{i}")
        if block == 4:
            # The root mean square is the norm divided by the root of the number of channels.
            normalization: Any = keras.layers.RMSNormalization(name="conv4_3_norm")
            conv4_3 = normalization(x)
            normalization.scale.assign(np.full(filters, 20 / filters**0.5))
        # The third pooling rounds up, the fifth keeps the size.
        size, strides = (3, 1) if block == 5 else (2, 2)
        padding = "same" if block in (3, 5) else "valid"
        x = keras.layers.MaxPooling2D(size, strides, padding, name=f"block{block}_pool")(x)
    x = _relu_conv(x, _VGG16_UNITS, 3, "fc6", dilation_rate=6)
    # Nothing is computed from the normalized feature map: the levels cannot be found.
    levels = {"P3": conv4_3, "P4": _relu_conv(x, _VGG16_UNITS, 1, "fc7")}
    graph = keras.Model(pixels, {"outputs": levels, "levels": levels}, name="ssd_vgg16")
    backbone = backbone_of_graph(graph, graph.dtype_policy)
    if weights is not None:
        with downloading_weights():
            vgg16 = keras.applications.VGG16(weights=weights)
        _carry_over(vgg16, backbone)
    return backbone


def _relu_conv(x, filters, kernel_size, name, **kwargs):
    kwargs |= {"padding": "same", "activation": "relu", "name": name}
    return keras.layers.Conv2D(filters, kernel_size, **kwargs)(x)


def _carry_over(vgg16, backbone):
    """A classifier's weights; of the fully connected layers every third place, fourth channel."""
    for layer in vgg16.layers:
        if isinstance(layer, keras.layers.Conv2D):
            backbone.get_layer(layer.name).set_weights(layer.get_weights())
    kernel, bias = vgg16.get_layer("fc1").get_weights()
    kernel = kernel.reshape(7, 7, -1, kernel.shape[-1])[::3, ::3, :, ::4]
    backbone.get_layer("fc6").set_weights([kernel, bias[::4]])
    kernel, bias = vgg16.get_layer("fc2").get_weights()
    backbone.get_layer("fc7").set_weights([kernel[None, None, ::4, ::4], bias[::4]])
