"""The parts of the paper's networks, with PyTorch's padding and the official initializers."""

import math
import numbers

import keras
import numpy as np

from keras_cbam.errors import is_number, positive_integer
from keras_cbam.insertion.insert import insert_attention
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM

# ImageNet's mean and deviation of the channels, of pixels in [0, 255].
MEAN = 255 * np.array([0.485, 0.456, 0.406])
DEVIATION = 255 * np.array([0.229, 0.224, 0.225])
POOLINGS = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
# PyTorch's initializer of a linear layer's kernel.
_LINEAR = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}
# Attention as the official code has it.
OFFICIAL = {
    "cbam": {"use_batch_norm": True, "kernel_initializer": _LINEAR},
    "se": {"kernel_initializer": _LINEAR},
    "bam": {"combine": "multiply", "kernel_initializer": _LINEAR},
}


def he_normal(mode):
    return keras.initializers.VarianceScaling(2.0, mode=mode, distribution="untruncated_normal")


def channel_axis():
    return 1 if keras.config.image_data_format() == "channels_first" else -1


def image_shape(size):
    size = positive_integer("image_size", size)
    return (3, size, size) if channel_axis() == 1 else (size, size, 3)


def network_inputs(width_name, width, num_classes, input_shape, include_preprocessing, pooling):
    """The inputs, and what the first layer gets; ValueError if an argument is outside its range."""
    if not is_number(width) or not 0 < width < math.inf:
        raise ValueError(
            f"`{width_name}` must be a positive number. Received: {width_name}={width!r}"
        )
    positive_integer("num_classes", num_classes)
    if pooling not in (*POOLINGS, None):
        raise ValueError(f'`pooling` must be "avg", "max" or None. Received: pooling={pooling!r}')
    if input_shape is None:
        input_shape = image_shape(224)
    is_first = channel_axis() == 1
    is_shape = isinstance(input_shape, (tuple, list)) and len(input_shape) == 3
    is_shape = is_shape and all(map(_is_size, input_shape))
    if not is_shape or input_shape[0 if is_first else 2] != 3:
        raise ValueError(
            "`input_shape` must have three sizes, of which that of the channels, "
            f"{'the first' if is_first else 'the last'}, is 3. "
            f"Received: input_shape={input_shape!r}"
        )
    inputs = keras.Input(input_shape, name="pixels" if include_preprocessing else "pictures")
    return inputs, preprocessed(inputs, include_preprocessing)


def _is_size(size):
    return size is None or (isinstance(size, numbers.Integral) and size > 0)


def preprocessed(inputs, include_preprocessing):
    """Pixels in [0, 255], normalized by ImageNet's mean and deviation."""
    if not include_preprocessing:
        return inputs
    return keras.layers.Normalization(
        axis=channel_axis(), mean=MEAN, variance=DEVIATION**2, name="normalization"
    )(inputs)


def padded(x, kernel_size, name):
    """Pads all sides alike, as PyTorch does: "same" pads the end more where strides are 2."""
    if kernel_size == 1:
        return x
    return keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)


def conv(x, filters, kernel_size, name, strides=1, groups=1):
    """A convolution without bias."""
    x = padded(x, kernel_size, name) if strides > 1 else x
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="valid" if strides > 1 else "same",
        groups=groups,
        use_bias=False,
        kernel_initializer=he_normal("fan_out"),
        name=name,
    )(x)


def norm(x, name):
    return keras.layers.BatchNormalization(
        axis=channel_axis(), momentum=0.9, epsilon=1e-5, name=name
    )(x)


def with_top(x, include_top, pooling, num_classes, classifier_activation):
    """Features, pooled features or class scores."""
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
        return keras.layers.Dense(
            num_classes,
            activation=classifier_activation,
            kernel_initializer=he_normal("fan_in"),
            dtype="float32",
            name="fc",
        )(x)
    return POOLINGS[pooling](name=f"{pooling}pool")(x) if pooling else x


def attended(model, attention, where):
    """Inserts attention as the official code has it, not starting as an identity."""
    if attention is None:
        return model
    if isinstance(attention, str) and attention in OFFICIAL:
        attention = {"class_name": attention, "config": OFFICIAL[attention]}
    model = insert_attention(model, attention, where, start_as_identity=False)
    # The layers have one initializer; that of the convolutions' kernels is another.
    for layer in model.layers:
        if isinstance(layer, CBAM) and layer.spatial_attention is not None:
            kernels = [layer.spatial_attention.kernel]
        elif isinstance(layer, BAM):
            kernels = [layer.reduce_kernel, *layer.dilated_kernels, layer.spatial_kernel]
        else:
            continue
        for kernel in kernels:
            kernel.assign(he_normal("fan_out")(kernel.shape, dtype=kernel.dtype))
    return model
