import json
import re

import keras
import numpy as np
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, ConvolutionControl, SpatialAttention
from tests.checks import random_input, to_numpy

LAYERS = [ChannelAttention, SpatialAttention, CBAM, BAM, ConvolutionControl]
BAD_INTEGERS = [0, -4, 2.0, True, "3", None]
BAD_SIZES = [*BAD_INTEGERS, 2, 4, (), (3, 5), (2, 2), [3, 3.0], ((3, 3),)]
BAD_BOOLEANS = ["no", "True", None, 2, [True]]
BAD_POOLINGS = ["median", ("avg", "median"), (), [], ("avg", "avg"), None, 3, ""]


@pytest.mark.parametrize(
    ("layer_class", "name", "values"),
    [
        (ChannelAttention, "reduction_ratio", [*BAD_INTEGERS, (3, 3)]),
        (ChannelAttention, "pooling", [*BAD_POOLINGS, "conv"]),
        (SpatialAttention, "kernel_size", BAD_SIZES),
        (SpatialAttention, "pooling", [*BAD_POOLINGS, "lse", ("avg", "lp")]),
        (CBAM, "reduction_ratio", BAD_INTEGERS),
        (CBAM, "kernel_size", BAD_SIZES),
        (CBAM, "pooling", BAD_POOLINGS),
        (CBAM, "spatial_pooling", BAD_POOLINGS),
        (CBAM, "arrangement", ["sequential", "", None, 3]),
        (CBAM, "data_format", ["NHWC", 1]),
        (BAM, "data_format", ["NHWC", 1]),
        (BAM, "reduction_ratio", BAD_INTEGERS),
        (BAM, "dilation_rate", BAD_INTEGERS),
        (ConvolutionControl, "reduction_ratio", BAD_INTEGERS),
        (ConvolutionControl, "data_format", ["NHWC", 1]),
        (BAM, "combine", ["sum", "", None, 3]),
        (ChannelAttention, "data_format", ["NHWC", 1]),
        (SpatialAttention, "data_format", ["NHWC", 1]),
        (ChannelAttention, "use_bias", BAD_BOOLEANS),
        (SpatialAttention, "use_bias", BAD_BOOLEANS),
        (SpatialAttention, "use_batch_norm", BAD_BOOLEANS),
        (CBAM, "use_bias", BAD_BOOLEANS),
        (CBAM, "use_batch_norm", BAD_BOOLEANS),
        (CBAM, "residual", BAD_BOOLEANS),
        *((layer_class, "start_as_identity", BAD_BOOLEANS) for layer_class in LAYERS),
    ],
)
def test_bad_arguments(layer_class, name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"`{name}` must .*Received: {name}="):
            layer_class(**{name: value})


@pytest.mark.parametrize("layer_class", LAYERS)
def test_a_dict_that_is_not_a_dtype_policy(layer_class):
    unknown = {"class_name": "DTypePolicy", "config": {"name": "half"}}
    for dtype in (unknown, {"class_name": "ReLU", "config": {}}, {}):
        message = "`dtype` is not a valid dtype policy. Received: dtype=" + re.escape(repr(dtype))
        with pytest.raises(ValueError, match=message):
            layer_class(dtype=dtype)
        with pytest.raises(ValueError, match=message):
            layer_class.from_config({**layer_class().get_config(), "dtype": dtype})


@pytest.mark.parametrize("layer_class", [SpatialAttention, CBAM])
def test_a_kernel_size_for_each_spatial_axis(layer_class):
    inputs = random_input((2, 5, 4, 6))
    layers = [layer_class(kernel_size=size) for size in ((3, 3), [3, 3], 3)]
    for layer in layers:
        layer.build(inputs.shape)
        layer.set_weights(layers[0].get_weights())
        np.testing.assert_array_equal(to_numpy(layer(inputs)), to_numpy(layers[0](inputs)))
        config = json.loads(json.dumps(layer.get_config()))
        assert layer_class.from_config(config).kernel_size == layer.kernel_size
    assert [layer.kernel_size for layer in layers] == [(3, 3), (3, 3), 3]
    for shape in [(2, 5, 6), (2, 3, 4, 5, 6)]:
        with pytest.raises(ValueError, match=r"Received: kernel_size=\(3, 3\), input_shape="):
            layer_class(kernel_size=(3, 3)).build(shape)


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
