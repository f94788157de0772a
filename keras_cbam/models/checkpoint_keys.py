"""Where the variables of a `ResNet` are in a PyTorch checkpoint."""

import re
import typing

import keras

from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM

# The two input maps of the spatial gate's convolution, as each layout has them.
_MAPS = {"official": ("max", "avg"), "timm": ("avg", "max")}


class Entry(typing.NamedTuple):
    """A variable, the tensor of the file that it is set from, its shape there, and how."""

    variable: keras.Variable
    key: str
    shape: tuple
    convert: typing.Callable


def _linear(variable, key, ones=0):
    """Outputs x inputs in the file, with so many axes of size 1 after them."""
    shape = (*reversed(variable.shape), *(1,) * ones)
    return Entry(variable, key, shape, lambda array: array.reshape(array.shape[:2]).T)


def _convolution(variable, key, maps=None):
    """Outputs x inputs x height x width in the file."""
    height, width, inputs, outputs = variable.shape
    order = range(inputs) if maps is None else maps
    return Entry(
        variable,
        key,
        (outputs, inputs, height, width),
        lambda array: array.transpose(2, 3, 1, 0)[:, :, list(order)],
    )


def _vector(variable, key):
    return Entry(variable, key, tuple(variable.shape), lambda array: array)


def _batch_norm(layer, prefix):
    yield _vector(layer.gamma, f"{prefix}.weight")
    yield _vector(layer.beta, f"{prefix}.bias")
    yield _vector(layer.moving_mean, f"{prefix}.running_mean")
    yield _vector(layer.moving_variance, f"{prefix}.running_var")


def _cbam(layer, block, layout):
    channel, spatial = layer.channel_attention, layer.spatial_attention
    if layout == "timm":
        prefix, first, second, ones = f"{block}.se.channel", "fc1", "fc2", 2
        convolution, norm = (f"{block}.se.spatial.conv.{name}" for name in ("conv", "bn"))
    else:
        prefix, first, second, ones = f"{block}.cbam.ChannelGate.mlp", "1", "3", 0
        convolution, norm = (f"{block}.cbam.SpatialGate.spatial.{name}" for name in ("conv", "bn"))
    if channel is not None:
        yield _linear(channel.hidden_kernel, f"{prefix}.{first}.weight", ones)
        yield _linear(channel.output_kernel, f"{prefix}.{second}.weight", ones)
        if channel.use_bias and layout == "official":
            yield _vector(channel.hidden_bias, f"{prefix}.{first}.bias")
            yield _vector(channel.output_bias, f"{prefix}.{second}.bias")
    if spatial is not None and set(spatial.pooling) == {"avg", "max"}:
        order = [_MAPS[layout].index(name) for name in spatial.pooling]
        yield _convolution(spatial.kernel, f"{convolution}.weight", order)
        if spatial.batch_norm is not None:
            yield from _batch_norm(spatial.batch_norm, norm)


def _bam(layer, prefix):
    gate = f"{prefix}.channel_att.gate_c.gate_c"
    yield _linear(layer.hidden_kernel, f"{gate}_fc_0.weight")
    yield _vector(layer.hidden_bias, f"{gate}_fc_0.bias")
    yield from _batch_norm(layer.channel_norm, f"{gate}_bn_1")
    yield _linear(layer.channel_kernel, f"{gate}_fc_final.weight")
    yield _vector(layer.channel_bias, f"{gate}_fc_final.bias")
    gate = f"{prefix}.spatial_att.gate_s.gate_s"
    yield _linear(layer.reduce_kernel, f"{gate}_conv_reduce0.weight", 2)
    yield _vector(layer.reduce_bias, f"{gate}_conv_reduce0.bias")
    yield from _batch_norm(layer.reduce_norm, f"{gate}_bn_reduce0")
    for i, kernel in enumerate(layer.dilated_kernels):
        yield _convolution(kernel, f"{gate}_conv_di_{i}.weight")
        yield _vector(layer.dilated_biases[i], f"{gate}_conv_di_{i}.bias")
        yield from _batch_norm(layer.dilated_norms[i], f"{gate}_bn_di_{i}")
    yield _linear(layer.spatial_kernel, f"{gate}_conv_final.weight", 2)
    yield _vector(layer.spatial_bias, f"{gate}_conv_final.bias")


def checkpoint_entries(layer, layout):
    """Where the variables of one layer are in a file of layout `"official"` or `"timm"`."""
    block = re.match(r"layer(\d)_(\d+)_", layer.name)
    if isinstance(layer, AttentionLayer):
        if block is not None and isinstance(layer, CBAM):
            return _cbam(layer, f"layer{block[1]}.{block[2]}", layout)
        if block is not None and isinstance(layer, BAM):
            return _bam(layer, f"bam{block[1]}")
        return ()
    key = re.sub(r"^layer(\d)_(\d+)_", r"layer\1.\2.", layer.name)
    key = key.replace("downsample_", "downsample.")
    if isinstance(layer, keras.layers.Conv2D):
        return (_convolution(layer.kernel, f"{key}.weight"),)
    if isinstance(layer, keras.layers.BatchNormalization):
        return _batch_norm(layer, key)
    if isinstance(layer, keras.layers.Dense):
        return _linear(layer.kernel, f"{key}.weight"), _vector(layer.bias, f"{key}.bias")
    return ()


def computes_otherwise(layer):
    """Whether it is attention of the shapes of a checkpoint's, but of another formula."""
    if isinstance(layer, BAM):
        return (layer.combine, layer.dilation_rate) != ("multiply", 4)
    return isinstance(layer, CBAM) and (
        layer.arrangement != "channel_spatial"
        or layer.residual
        or set(layer.pooling) != {"avg", "max"}
        or layer.activation is not keras.activations.relu
        or layer.gate_activation is not keras.activations.sigmoid
    )
