"""Feature maps of a detector: those of its backbone, and what is built on them."""

from typing import Any

import keras


def takes_two_off(size: int, padding: str) -> bool:
    """Whether SSD's next 3x3 convolution has no padding, in the place of strides of 2."""
    return padding == "valid" and 3 <= size <= 5


def extra_levels(x, filters, padding, dtype, use_batch_norm):
    """SSD's further feature maps after x, one for each number of filters: see `SSD`."""
    levels = []

    def convolution(x, channels, kernel_size, name, **kwargs):
        x = keras.layers.Conv2D(
            channels,
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

    for i, channels in enumerate(filters, 1):
        size = min(x.shape[1:3])
        if size < 2:
            raise ValueError(
                f"The feature maps have one position after {i - 1} further levels: `extra_filters` "
                f"has too many entries for this size of images. Received: extra_filters={filters}"
            )
        x = convolution(x, max(1, channels // 2), 1, f"extra_{i}_in")
        strides = {"padding": "valid"} if takes_two_off(size, padding) else {"strides": 2}
        x = convolution(x, channels, 3, f"extra_{i}", **strides)
        levels.append(x)
    return levels


def top_down(levels: Any, filters: int, dtype: Any, separable: bool = False) -> list:
    """StairNet's feature maps: each level, and what comes down from the coarser ones."""
    above, stairs = None, []

    def normalized(x, kernel_size, name):
        kind = (
            keras.layers.SeparableConv2D if separable and kernel_size > 1 else keras.layers.Conv2D
        )
        options = {"padding": "same", "use_bias": False, "dtype": dtype, "name": f"{name}_conv"}
        x = kind(filters, kernel_size, **options)(x)
        return keras.layers.BatchNormalization(dtype=dtype, name=f"{name}_norm")(x)

    for i, level in reversed(list(enumerate(levels, 1))):
        x = normalized(level, 1, f"lateral_{i}")
        if above is not None:
            above = normalized(_enlarged(above, level, i, dtype), 3, f"top_down_{i}")
            x = keras.layers.Add(dtype=dtype, name=f"sum_{i}")([x, above])
        above = x
        x = normalized(x, 3, f"stair_{i}")
        stairs.insert(0, keras.layers.ReLU(dtype=dtype, name=f"stair_{i}")(x))
    return stairs


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
    options = {"interpolation": "nearest", "dtype": dtype, "name": f"enlarged_{i}"}
    return keras.layers.Resizing(*level.shape[1:3], **options)(x)
