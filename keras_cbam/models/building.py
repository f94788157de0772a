"""The parts of the paper's networks, with PyTorch's padding and the official initializers."""

import math
import numbers
from typing import Any

import keras
import numpy as np

from keras_cbam._types import Attention, Where
from keras_cbam.errors import is_number, one_of, positive_integer
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


def he_normal(mode: str) -> Any:
    return keras.initializers.VarianceScaling(2.0, mode=mode, distribution="untruncated_normal")


def channel_axis() -> int:
    return 1 if keras.config.image_data_format() == "channels_first" else -1


def image_shape(size: int) -> tuple[int, int, int]:
    size = positive_integer("image_size", size)
    return (3, size, size) if channel_axis() == 1 else (size, size, 3)


def network_inputs(
    width_name: str,
    width: float,
    num_classes: int,
    input_shape: Any,
    preprocess: bool,
    pooling: Any,
) -> tuple[Any, Any]:
    """Returns the inputs and what the first layer gets, after checks of the shared arguments."""
    if not is_number(width) or not 0 < width < math.inf:
        raise ValueError(
            f"`{width_name}` must be a positive number. Received: {width_name}={width!r}"
        )
    positive_integer("num_classes", num_classes)
    one_of(*POOLINGS, None)("pooling", pooling)
    input_shape = image_shape(224) if input_shape is None else input_shape
    position, axis = ("first", 0) if channel_axis() == 1 else ("last", 2)
    is_shape = isinstance(input_shape, (tuple, list)) and len(input_shape) == 3
    if not is_shape or not all(map(_is_size, input_shape)) or input_shape[axis] != 3:
        raise ValueError(
            f"`input_shape` must have three sizes, of which that of the channels, the {position}, "
            f"is 3. Received: input_shape={input_shape!r}"
        )
    inputs = keras.Input(input_shape, name="pixels" if preprocess else "images")
    return inputs, preprocessed(inputs, preprocess)


def _is_size(size):
    return size is None or (isinstance(size, numbers.Integral) and int(size) > 0)


def preprocessed(inputs: Any, include_preprocessing: bool) -> Any:
    """Pixels in [0, 255], normalized by ImageNet's mean and deviation."""
    if not include_preprocessing:
        return inputs
    options = {"mean": MEAN, "variance": DEVIATION**2, "name": "normalization"}
    return keras.layers.Normalization(channel_axis(), **options)(inputs)


def padded(x: Any, kernel_size: int, name: str) -> Any:
    """Pads all sides alike, as PyTorch does: "same" pads the end more where strides are 2."""
    margin = kernel_size // 2
    return keras.layers.ZeroPadding2D(margin, name=f"{name}_pad")(x) if margin else x


def conv(x: Any, filters: int, size: int, name: str, strides: int = 1, groups: int = 1) -> Any:
    """A convolution without bias."""
    x = padded(x, size, name) if strides > 1 else x
    return keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="valid" if strides > 1 else "same",
        groups=groups,
        use_bias=False,
        kernel_initializer=he_normal("fan_out"),
        name=name,
    )(x)


def norm(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(channel_axis(), 0.9, 1e-5, name=name)(x)


def with_top(x: Any, include_top: bool, pooling: str | None, classes: int, activation: Any) -> Any:
    """Features, pooled features or class scores."""
    if include_top:
        x = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
        return keras.layers.Dense(
            classes,
            activation=activation,
            kernel_initializer=he_normal("fan_in"),
            dtype="float32",
            name="fc",
        )(x)
    return POOLINGS[pooling](name=f"{pooling}pool")(x) if pooling else x


def with_attention(
    model: keras.Model, attention: Attention, where: Where, start_as_identity: bool = False
) -> keras.Model:
    """Inserts attention: that which is named in `OFFICIAL` starts as in the official code.

    What is given as a config, a layer, a class or a callable keeps its own arguments.
    """
    if attention is None:
        return model
    if not isinstance(attention, str) or attention not in OFFICIAL:
        return insert_attention(model, attention, where, start_as_identity)
    config = {"class_name": attention, "config": OFFICIAL[attention]}
    model = insert_attention(model, config, where, start_as_identity)
    # The layers have one initializer, for their MLPs; their convolutions start otherwise.
    kernels = []
    for layer in model.layers:
        if isinstance(layer, CBAM):
            kernels.append(layer.spatial_attention.kernel)
        elif isinstance(layer, BAM):
            kernels += [layer.reduce_kernel, *layer.dilated_kernels, layer.spatial_kernel]
    for kernel in kernels:
        kernel.assign(he_normal("fan_out")(kernel.shape, dtype=kernel.dtype))
    return model
