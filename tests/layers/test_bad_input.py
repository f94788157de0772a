import keras
import numpy as np
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from tests.checks import random_input

LAYERS = [ChannelAttention, SpatialAttention, CBAM, BAM]
BAD_INTEGERS = [0, -4, 2.0, True, "3", None, (3, 3)]
BAD_POOLINGS = ["median", ("avg", "median"), (), [], ("avg", "avg"), None, 3, ""]


@pytest.mark.parametrize(
    ("layer_class", "name", "values"),
    [
        (ChannelAttention, "reduction_ratio", BAD_INTEGERS),
        (ChannelAttention, "pooling", [*BAD_POOLINGS, "conv"]),
        (SpatialAttention, "kernel_size", [*BAD_INTEGERS, 2, 4]),
        (SpatialAttention, "pooling", [*BAD_POOLINGS, "lse", ("avg", "lp")]),
        (CBAM, "reduction_ratio", BAD_INTEGERS),
        (CBAM, "kernel_size", [*BAD_INTEGERS, 6]),
        (CBAM, "pooling", BAD_POOLINGS),
        (CBAM, "spatial_pooling", BAD_POOLINGS),
        (CBAM, "arrangement", ["sequential", "", None, 3]),
        (CBAM, "data_format", ["NHWC", 1]),
        (BAM, "data_format", ["NHWC", 1]),
        (BAM, "reduction_ratio", BAD_INTEGERS),
        (BAM, "dilation_rate", BAD_INTEGERS),
        (BAM, "combine", ["sum", "", None, 3]),
        (ChannelAttention, "data_format", ["NHWC", 1]),
        (SpatialAttention, "data_format", ["NHWC", 1]),
    ],
)
def test_bad_arguments(layer_class, name, values):
    for value in values:
        # The spatial gate of a CBAM calls its own pooling "pooling".
        with pytest.raises(ValueError, match="Received: (pooling|" + name + ")="):
            layer_class(**{name: value})


@pytest.mark.parametrize("layer_class", LAYERS)
@pytest.mark.parametrize(
    "shape", [(2, 8), (2, 3, 3, 3, 3, 8), (2, 4, 4, None)], ids=["rank 2", "rank 6", "channels"]
)
def test_bad_shapes(layer_class, shape):
    with pytest.raises(ValueError, match=r"Received: input_shape=\(2, "):
        layer_class().build(shape)
    with pytest.raises(ValueError, match=r"Received: input_shape=\(None, "):
        layer_class()(keras.Input(shape[1:]))
    if None not in shape:
        with pytest.raises(ValueError, match=r"Received: input_shape=\(2, "):
            layer_class()(random_input(shape))


@pytest.mark.parametrize("layer_class", LAYERS)
def test_unknown_channels_in_front(layer_class):
    layer = layer_class(data_format="channels_first")
    with pytest.raises(ValueError, match=r"axis 1.*Received: input_shape=\(None, None, 4, 4\)"):
        layer(keras.Input((None, 4, 4)))


@pytest.mark.parametrize("layer_class", LAYERS)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_inputs_that_are_not_floating_point(layer_class, dtype):
    with pytest.raises(ValueError, match=f"Received: inputs of dtype {dtype}"):
        layer_class()(np.ones((2, 4, 4, 8), dtype))
    with pytest.raises(ValueError, match=f"Received: inputs of dtype {dtype}"):
        layer_class()(keras.Input((4, 4, 8), dtype=dtype))


@pytest.mark.parametrize("layer_class", LAYERS)
@pytest.mark.parametrize("shape", [(2, 4, 4, 9), (2, 4, 8)], ids=["channels", "rank"])
def test_another_channel_count_or_rank_later(layer_class, shape):
    layer = layer_class()
    layer(random_input((2, 4, 4, 8)))
    layer(random_input((1, 5, 3, 8)))
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(random_input(shape))
