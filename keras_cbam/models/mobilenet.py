"""The MobileNet of the CBAM paper."""

import keras

from keras_cbam.models.building import (
    attended,
    conv,
    norm,
    padded,
    preprocessed,
    validated_shape,
    with_top,
)

# Channels and strides of the thirteen units.
UNITS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
UNITS += [(1024, 2), (1024, 1)]


def MobileNet(
    attention="cbam",
    alpha=1.0,
    num_classes=1000,
    include_top=True,
    input_shape=None,
    include_preprocessing=True,
    pooling=None,
    classifier_activation="softmax",
    name="mobilenet",
):
    """The MobileNet of the CBAM paper, with attention after each unit.

    Each of thirteen units is a depthwise 3x3 and a pointwise convolution, each with batch
    normalization and ReLU: 26 sites, the only reading of the paper that gives its parameter counts.
    Padding is PyTorch's; batch normalization has epsilon 1e-5 and momentum 0.9.

    Args:
        attention: `"cbam"` (with batch normalization after the 7x7), `"se"`, `None`, or anything
            else that `insert_attention` takes. It does not start as an identity.
            Defaults to `"cbam"`.
        alpha: float, factor of the channels; the paper has 1.0 and 0.7. Defaults to `1.0`.
        num_classes: see `ResNet`. Defaults to `1000`.
        include_top: see `ResNet`. Defaults to `True`.
        input_shape: see `ResNet`. Defaults to `None`.
        include_preprocessing: see `ResNet`. Defaults to `True`.
        pooling: see `ResNet`. Defaults to `None`.
        classifier_activation: see `ResNet`. Defaults to `"softmax"`.
        name: string, name of the model. Defaults to `"mobilenet"`.

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
    shape = validated_shape("alpha", alpha, num_classes, input_shape, pooling)
    if int(32 * alpha) < 1:
        raise ValueError(f"`alpha` leaves no channels. Received: alpha={alpha}")
    inputs = keras.Input(shape, name="pixels" if include_preprocessing else "pictures")
    x = preprocessed(inputs, include_preprocessing)
    x = conv(x, int(32 * alpha), 3, "conv1", strides=2)
    x = keras.layers.ReLU(name="conv1_relu")(norm(x, "conv1_bn"))
    for i, (filters, strides) in enumerate(UNITS, 1):
        name_of_unit = f"conv_dw_{i}"
        x = keras.layers.DepthwiseConv2D(
            3,
            strides=strides,
            padding="valid" if strides > 1 else "same",
            use_bias=False,
            # Nine weights to an output, as PyTorch counts the fan of a grouped convolution.
            depthwise_initializer=keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5),
            name=name_of_unit,
        )(padded(x, 3, name_of_unit) if strides > 1 else x)
        x = keras.layers.ReLU(name=f"conv_dw_{i}_relu")(norm(x, f"conv_dw_{i}_bn"))
        x = conv(x, int(filters * alpha), 1, f"conv_pw_{i}")
        x = keras.layers.ReLU(name=f"conv_pw_{i}_relu")(norm(x, f"conv_pw_{i}_bn"))
    outputs = with_top(x, include_top, pooling, num_classes, classifier_activation)
    return attended(keras.Model(inputs, outputs, name=name), attention, r"^conv_(dw|pw)_\d+_relu$")
