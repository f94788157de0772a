"""Which residual network the tensors of a PyTorch checkpoint belong to."""

import re

from keras_cbam.errors import CheckpointError
from keras_cbam.models.resnet import DEPTHS


def describe_checkpoint(arrays):
    """The arguments of the `ResNet` that the tensors of a checkpoint belong to.

    Args:
        arrays: dict of arrays, see `read_checkpoint`.

    Returns:
        Dict of arguments of `ResNet`. The place of a bottleneck's stride cannot be told.

    Raises:
        CheckpointError: if it is no residual network of a known depth.
    """
    blocks = {key.split(".")[1] + key[5] for key in arrays if re.match(r"layer\d\.\d+\.", key)}
    counts = tuple(sum(block.endswith(stage) for block in blocks) for stage in "1234")
    is_bottleneck = "layer1.0.conv3.weight" in arrays
    depth = next((d for d, known in DEPTHS.items() if known == (counts, is_bottleneck)), None)
    if depth is None:
        raise CheckpointError(
            f"The file holds no residual network of depth {', '.join(map(str, DEPTHS))}: its "
            f"stages have {counts} blocks."
        )
    stem = _shape(arrays, "conv1.weight", 4)
    planes = _shape(arrays, f"layer1.0.conv{3 if is_bottleneck else 2}.weight", 4)[0]
    planes //= 4 if is_bottleneck else 1
    arguments = {"depth": depth, "attention": _attention(arrays)}
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


def _attention(arrays):
    if any(".cbam." in key or ".se.channel." in key for key in arrays):
        return "cbam"
    return "bam" if any(key.startswith("bam1.") for key in arrays) else None
