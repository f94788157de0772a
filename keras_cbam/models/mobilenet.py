"""The MobileNet of the CBAM paper."""

from typing import Any

import keras

from keras_cbam._types import Activation, Attention
from keras_cbam.models.building import conv, network_inputs, norm, padded, with_attention, with_top

# Channels and strides of the thirteen units.
UNITS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
UNITS += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]


def MobileNet(
    attention: Attention = "cbam",
    alpha: float = 1.0,
    num_classes: int = 1000,
    include_top: bool = True,
    input_shape: tuple[int | None, ...] | None = None,
    include_preprocessing: bool = True,
    pooling: str | None = None,
    classifier_activation: Activation = "softmax",
    start_as_identity: bool = False,
    name: str = "mobilenet",
) -> keras.Model:
    """The MobileNet of the CBAM paper, with attention after each depthwise and pointwise unit.

    These 26 sites are the only reading of the paper that gives its parameter counts. Padding and
    batch normalization are as in `ResNet`.

    Args:
        alpha: float, factor of the channels; the paper has 1.0 and 0.7. Defaults to `1.0`.
        name: string, name of the model. Defaults to `"mobilenet"`.
        attention, num_classes and all others: see `ResNet`, which has the same defaults.

    Returns:
        A Functional `keras.Model` with random weights.

    Raises:
        ValueError: if an argument is outside its range; see also `insert_attention`.

    Example:

    >>> MobileNet(attention=None, alpha=0.7).output_shape
    (None, 1000)

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), table 5
    - [Howard et al., MobileNets](https://arxiv.org/abs/1704.04861)
    """
    inputs, x = network_inputs(
        "alpha", alpha, num_classes, input_shape, include_preprocessing, pooling
    )
    if int(32 * alpha) < 1:
        raise ValueError(f"`alpha` leaves no channels. Received: alpha={alpha}")
    x = conv(x, int(32 * alpha), 3, "conv1", strides=2)
    x = keras.layers.ReLU(name="conv1_relu")(norm(x, "conv1_bn"))
    for i, (filters, strides) in enumerate(UNITS, 1):
        x = keras.layers.DepthwiseConv2D(
            3,
            strides=strides,
            padding="valid" if strides > 1 else "same",
            use_bias=False,
            depthwise_initializer=_he_normal_of_nine(),
            name=f"conv_dw_{i}",
        )(padded(x, 3, f"conv_dw_{i}") if strides > 1 else x)
        x = keras.layers.ReLU(name=f"conv_dw_{i}_relu")(norm(x, f"conv_dw_{i}_bn"))
        x = conv(x, int(filters * alpha), 1, f"conv_pw_{i}")
        x = keras.layers.ReLU(name=f"conv_pw_{i}_relu")(norm(x, f"conv_pw_{i}_bn"))
    outputs = with_top(x, include_top, pooling, num_classes, classifier_activation)
    model = keras.Model(inputs, outputs, name=name)
    return with_attention(model, attention, r"^conv_(dw|pw)_\d+_relu$", start_as_identity)


def _he_normal_of_nine() -> Any:
    """PyTorch counts nine weights as the fan of a depthwise convolution."""
    return keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5)
