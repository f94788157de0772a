"""How the tensors of a PyTorch checkpoint belong to the variables of a `ResNet`."""

import re
import typing
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from keras_cbam.errors import CheckpointError
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM
from keras_cbam.models.resnet import DEPTHS

# The two layers of the channel gate in each layout, and the axes of size 1 of their kernels.
_CHANNEL = {
    "official": ("cbam.ChannelGate.mlp.1", "cbam.ChannelGate.mlp.3", 0),
    "timm": ("se.channel.fc1", "se.channel.fc2", 2),
}
# The convolution and normalization of the spatial gate, and the order of its two input maps.
_SPATIAL = {
    "official": ("cbam.SpatialGate.spatial", ("max", "avg")),
    "timm": ("se.spatial.conv", ("avg", "max")),
}


class Entry(typing.NamedTuple):
    """A variable, and the tensor of the file that it is set from."""

    variable: keras.Variable
    key: str | None  # None: the layout has no such tensor
    shape: tuple  # in the file
    maps: typing.Any = slice(None)  # where a kernel's inputs are in the file

    def convert(self, array: np.ndarray) -> np.ndarray:
        """The variable's value, of the file's array."""
        # Kernels are outputs x inputs x height x width there.
        if array.ndim > 1:
            array = np.moveaxis(array, (0, 1), (-1, -2))[..., self.maps, :]
        return array.reshape(self.variable.shape)


def _kernel(variable, key, ones=0, maps: typing.Any = slice(None)):
    """A kernel, with so many axes of size 1 at its end in the file."""
    *window, inputs, outputs = variable.shape
    return Entry(variable, f"{key}.weight", (outputs, inputs, *window, *(1,) * ones), maps)


def _vector(variable, key):
    return Entry(variable, key, tuple(variable.shape))


def _affine(kernel, bias, key, ones=0):
    yield _kernel(kernel, key, ones)
    yield _vector(bias, f"{key}.bias")


def _batch_norm(layer, key):
    yield _vector(layer.gamma, f"{key}.weight")
    yield _vector(layer.beta, f"{key}.bias")
    yield _vector(layer.moving_mean, f"{key}.running_mean")
    yield _vector(layer.moving_variance, f"{key}.running_var")


def _cbam(layer, block, layout):
    channel, spatial = layer.channel_attention, layer.spatial_attention
    if channel is not None:
        first, second, ones = _CHANNEL[layout]
        yield _kernel(channel.hidden_kernel, f"{block}.{first}", ones)
        yield _kernel(channel.output_kernel, f"{block}.{second}", ones)
        if channel.use_bias:
            has_bias = layout == "official"
            yield _vector(channel.hidden_bias, f"{block}.{first}.bias" if has_bias else None)
            yield _vector(channel.output_bias, f"{block}.{second}.bias" if has_bias else None)
    if spatial is not None and set(spatial.pooling) == {"avg", "max"}:
        gate, maps = _SPATIAL[layout]
        order = [maps.index(name) for name in spatial.pooling]
        yield _kernel(spatial.kernel, f"{block}.{gate}.conv", maps=order)
        if spatial.batch_norm is not None:
            yield from _batch_norm(spatial.batch_norm, f"{block}.{gate}.bn")


def _bam(layer, block):
    gate = f"{block}.channel_att.gate_c.gate_c"
    yield from _affine(layer.hidden_kernel, layer.hidden_bias, f"{gate}_fc_0")
    yield from _batch_norm(layer.channel_norm, f"{gate}_bn_1")
    yield from _affine(layer.channel_kernel, layer.channel_bias, f"{gate}_fc_final")
    gate = f"{block}.spatial_att.gate_s.gate_s"
    yield from _affine(layer.reduce_kernel, layer.reduce_bias, f"{gate}_conv_reduce0", ones=2)
    yield from _batch_norm(layer.reduce_norm, f"{gate}_bn_reduce0")
    for i, kernel in enumerate(layer.dilated_kernels):
        yield from _affine(kernel, layer.dilated_biases[i], f"{gate}_conv_di_{i}")
        yield from _batch_norm(layer.dilated_norms[i], f"{gate}_bn_di_{i}")
    yield from _affine(layer.spatial_kernel, layer.spatial_bias, f"{gate}_conv_final", ones=2)


def layer_entries(layer: keras.layers.Layer, layout: str) -> Iterator[Entry]:
    """Yields the entries of one layer in a file of layout `"official"` or `"timm"`."""
    block = re.match(r"layer(\d)_(\d+)_", layer.name)
    key = re.sub(r"^layer(\d)_(\d+)_", r"layer\1.\2.", layer.name)
    key = key.replace("downsample_", "downsample.")
    if isinstance(layer, CBAM) and block:
        yield from _cbam(layer, f"layer{block[1]}.{block[2]}", layout)
    elif isinstance(layer, BAM) and block:
        yield from _bam(layer, f"bam{block[1]}")
    elif isinstance(layer, keras.layers.Conv2D):
        yield _kernel(layer.kernel, key)
    elif isinstance(layer, keras.layers.BatchNormalization):
        yield from _batch_norm(layer, key)
    elif isinstance(layer, keras.layers.Dense):
        yield from _affine(layer.kernel, layer.bias, key)


def computes_otherwise(layer: keras.layers.Layer) -> bool:
    """Whether it is attention with the shapes of a checkpoint's but another formula."""
    if isinstance(layer, BAM):
        return (layer.combine, layer.dilation_rate) != ("multiply", 4)
    return isinstance(layer, CBAM) and (
        layer.arrangement != "channel_spatial"
        or layer.residual
        or set(layer.pooling) != {"avg", "max"}
        or layer.activation is not keras.activations.relu
        or layer.gate_activation is not keras.activations.sigmoid
    )


def describe_checkpoint(arrays: Mapping[str, np.ndarray]) -> dict[str, typing.Any]:
    """The arguments of the `ResNet` whose tensors these are; none tells where it strides."""
    blocks = {key.split(".")[1] + key[5] for key in arrays if re.match(r"layer\d\.\d+\.", key)}
    counts = tuple(sum(block.endswith(stage) for block in blocks) for stage in "1234")
    is_bottleneck = "layer1.0.conv3.weight" in arrays
    depth = next((d for d, known in DEPTHS.items() if known == (counts, is_bottleneck)), None)
    if depth is None:
        raise CheckpointError(
            f"The file holds no residual network of depth {', '.join(map(str, DEPTHS))}: its "
            f"stages have {counts} blocks."
        )
    marks = {".cbam.": "cbam", ".se.channel.": "cbam", "bam1.": "bam"}
    found = (attention for mark, attention in marks.items() if any(mark in key for key in arrays))
    arguments = {"depth": depth, "attention": next(found, None)}
    stem = _shape(arrays, "conv1.weight", 4)
    planes = _shape(arrays, f"layer1.0.conv{3 if is_bottleneck else 2}.weight", 4)[0]
    planes //= 4 if is_bottleneck else 1
    if planes != 64:
        arguments["width"] = planes / 64
    if is_bottleneck:
        inner, of_group = _shape(arrays, "layer1.0.conv2.weight", 4)[:2]
        if (inner, of_group) != (planes, planes):
            arguments["cardinality"] = inner // of_group
            arguments["base_width"] = of_group * 64 // max(1, planes)
    if stem[-1] != 7:
        arguments["stem"] = "cifar"
    if "fc.weight" in arrays:
        arguments["num_classes"] = _shape(arrays, "fc.weight", 2)[0]
    else:
        arguments["include_top"] = False
    return arguments


def _shape(arrays, key, rank):
    shape = arrays[key].shape if key in arrays else None
    if shape is None or len(shape) != rank or 0 in shape:
        raise CheckpointError(
            f"The file holds no residual network: its tensor {key!r} has the shape {shape}."
        )
    return shape
