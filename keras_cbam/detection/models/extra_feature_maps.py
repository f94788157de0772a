"""Feature maps of a detector: those of its backbone, and what is built on them."""

from typing import Any

import keras


def _convolution(x, filters, kernel_size, name, dtype, use_batch_norm, **kwargs):
    """A convolution with ReLU, which has the given name; between them, batch normalization."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        use_bias=not use_batch_norm,
        kernel_initializer="he_normal",
        dtype=dtype,
        name=f"{name}_conv",
        **{"padding": "same", **kwargs},
    )(x)
    if use_batch_norm:
        x = keras.layers.BatchNormalization(dtype=dtype, name=f"{name}_norm")(x)
    return keras.layers.ReLU(dtype=dtype, name=name)(x)


def extra_levels(x, filters, padding, dtype, use_batch_norm):
    """SSD's further feature maps after x, one for each number of filters: see `SSD`."""
    levels = []
    for i, channels in enumerate(filters, 1):
        size = min(x.shape[1:3])
        if size < 2:
            raise ValueError(
                f"The feature maps have one position after {i - 1} further levels: `extra_filters` "
                f"has too many entries for this size of images. Received: extra_filters={filters}"
            )
        x = _convolution(x, max(1, channels // 2), 1, f"extra_{i}_in", dtype, use_batch_norm)
        is_valid = padding == "valid" and 3 <= size <= 5
        strides = {"padding": "valid"} if is_valid else {"strides": 2}
        x = _convolution(x, channels, 3, f"extra_{i}", dtype, use_batch_norm, **strides)
        levels.append(x)
    return levels


def top_down(levels: Any, filters: int, dtype: Any, separable: bool = False) -> list:
    """StairNet's feature maps: each level, and what comes down from the coarser ones."""
    above, stairs = None, []
    for i, level in reversed(list(enumerate(levels, 1))):
        x = _normalized(level, filters, 1, f"lateral_{i}", dtype, False)
        if above is not None:
            above = _enlarged(above, level, i, dtype)
            above = _normalized(above, filters, 3, f"top_down_{i}", dtype, separable)
            x = keras.layers.Add(dtype=dtype, name=f"sum_{i}")([x, above])
        above = x
        x = _normalized(x, filters, 3, f"stair_{i}", dtype, separable)
        stairs.insert(0, keras.layers.ReLU(dtype=dtype, name=f"stair_{i}")(x))
    return stairs


def _normalized(x, filters, kernel_size, name, dtype, separable):
    layer_class = keras.layers.SeparableConv2D if separable else keras.layers.Conv2D
    x = layer_class(
        filters, kernel_size, padding="same", use_bias=False, dtype=dtype, name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(dtype=dtype, name=f"{name}_norm")(x)


def feature_pyramid(inputs: Any, filters: int, dtype: Any) -> list:
    """Lateral 1x1 convolutions, added from the coarsest level down; on top of several, one more."""
    above, levels = None, []
    for i, level in reversed(list(enumerate(inputs, 1))):
        x = keras.layers.Conv2D(filters, 1, dtype=dtype, name=f"lateral_{i}")(level)
        if above is not None:
            above = _enlarged(above, level, i, dtype)
            x = keras.layers.Add(dtype=dtype, name=f"sum_{i}")([x, above])
        above = x
        smooth = keras.layers.Conv2D(filters, 3, padding="same", dtype=dtype, name=f"level_{i}")
        levels.insert(0, smooth(x))
    if len(levels) > 1:
        coarsest = keras.layers.MaxPooling2D(1, strides=2, dtype=dtype, name="coarsest")
        levels.append(coarsest(levels[-1]))
    return levels


def _enlarged(x, level, i, dtype):
    """x at the size of the level, by its nearest positions."""
    height, width = level.shape[1:3]
    return keras.layers.Resizing(
        height, width, interpolation="nearest", dtype=dtype, name=f"enlarged_{i}"
    )(x)
