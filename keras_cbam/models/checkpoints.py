"""Released PyTorch checkpoints into the paper's residual networks."""

import warnings

import keras
import numpy as np

from keras_cbam.errors import CheckpointError, positive_integer
from keras_cbam.layers.cbam import CBAM
from keras_cbam.models.checkpoint_files import read_checkpoint
from keras_cbam.models.checkpoint_keys import checkpoint_entries, computes_otherwise
from keras_cbam.models.checkpoint_network import describe_checkpoint
from keras_cbam.models.resnet import ResNet


class CheckpointWarning(UserWarning):
    """What a loaded checkpoint did not set, or cannot tell."""


def load_pytorch_checkpoint(model, path, skip_head=False):
    """Sets the weights of a `ResNet` from a PyTorch checkpoint.

    Two layouts are known: that of the official code (CBAM and BAM) and that of timm
    (`attn_layer="cbam"`). The names may have the prefix `module.`. timm's multilayer perceptron has
    no biases: ours are set to zero, with a warning. The spatial kernel's two input maps are put in
    the order of the model's `spatial_pooling`.

    Whether a bottleneck strides in its first 1x1 or in its 3x3 convolution cannot be told from a
    file. Released ones do in the 3x3: a model that does not is loaded with a warning.

    Nothing is written unless every tensor of the file has its place and every weight of the model
    its tensor, all of the right shape and finite.

    Args:
        model: `keras.Model` of `ResNet`, with the attention of the checkpoint.
        path: `.safetensors` file, or a file of `torch.save`: a dict of tensors, or a dict with one
            under `"state_dict"`. No code in the file is run.
        skip_head: bool, whether the classifier is left as it is, with a warning: for another
            number of classes, or `include_top=False`. Defaults to `False`.

    Returns:
        The model.

    Raises:
        CheckpointError: if the file cannot be read or does not fit; the message names what differs,
            and the model is unchanged.
        ImportError: if PyTorch (for `.safetensors`, safetensors) is not installed.

    Example:

    >>> model = ResNet(50, attention="cbam")
    >>> model = load_pytorch_checkpoint(model, "resnet50_cbam.pth")

    Reference:

    - [Official code of CBAM and BAM](https://github.com/Jongchan/attention-module)
    """
    return _load(model, read_checkpoint(path), path, skip_head)


def _load(model, arrays, path, skip_head):
    layout = "timm" if any(".se.channel." in key for key in arrays) else "official"
    entries = []
    for layer in model.layers:
        if not (skip_head and layer.name == "fc"):
            entries.extend(checkpoint_entries(layer, layout))
    problems = _problems(model, entries, arrays, layout, skip_head)
    if problems:
        raise CheckpointError(
            f"The checkpoint {str(path)!r} does not fit {model.name!r}: {'; '.join(problems)}. "
            f"{_what_it_is(arrays)}"
        )
    for entry in entries:
        entry.variable.assign(entry.convert(arrays[entry.key]))
    biases = _biases_that_timm_lacks(model) if layout == "timm" else []
    for variable in biases:
        variable.assign(np.zeros(variable.shape, "float32"))
    if biases:
        warnings.warn(
            f"timm's attention has no biases: {len(biases)} biases of the attention of "
            f"{model.name!r} are set to zero.",
            CheckpointWarning,
            stacklevel=3,
        )
    names = [layer.name for layer in model.layers]
    if skip_head and "fc" in names:
        warnings.warn(
            f"The classifier of {model.name!r} is not from the checkpoint {str(path)!r}: it is as "
            "it was.",
            CheckpointWarning,
            stacklevel=3,
        )
    first = model.get_layer("layer2_0_conv1")
    if "layer2_0_conv3" in names and first.strides[0] > 1:
        warnings.warn(
            f"{model.name!r} strides in the first 1x1 convolutions; released checkpoints do in the "
            "3x3.",
            CheckpointWarning,
            stacklevel=3,
        )
    return model


def _biases_that_timm_lacks(model):
    gates = [layer.channel_attention for layer in model.layers if isinstance(layer, CBAM)]
    gates = [gate for gate in gates if gate is not None and gate.use_bias]
    return [bias for gate in gates for bias in (gate.hidden_bias, gate.output_bias)]


def _problems(model, entries, arrays, layout, skip_head):
    """What differs between a file and a model, a sentence for each kind."""
    keys = {entry.key for entry in entries}
    set_elsewhere = {id(entry.variable) for entry in entries}
    if layout == "timm":
        set_elsewhere |= {id(bias) for bias in _biases_that_timm_lacks(model)}
    head = [layer for layer in model.layers if layer.name == "fc" and skip_head]
    set_elsewhere |= {id(weight) for layer in head for weight in layer.weights}
    present = [entry for entry in entries if entry.key in arrays]
    kinds = {
        "missing from the file": [repr(e.key) for e in entries if e.key not in arrays],
        "of the file without a place in the model": [
            repr(key)
            for key in arrays
            if key not in keys
            and not _is_count(key, keys)
            and not (skip_head and key.startswith("fc."))
        ],
        "of another shape": [
            f"{e.key!r} {arrays[e.key].shape} for {e.shape}"
            for e in present
            if arrays[e.key].shape != e.shape
        ],
        "that are not floating-point": [
            repr(e.key) for e in present if arrays[e.key].dtype.kind != "f"
        ],
        "not finite": [repr(e.key) for e in present if not np.isfinite(arrays[e.key]).all()],
        "that are negative variances": [
            repr(e.key)
            for e in present
            if e.key.endswith(".running_var") and np.any(arrays[e.key] < 0)
        ],
        "that no checkpoint has": [
            repr(weight.path)
            for layer in model.layers
            for weight in layer.weights
            if id(weight) not in set_elsewhere
        ],
    }
    problems = [
        f"{len(names)} tensors {kind}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}"
        for kind, names in kinds.items()
        if names
    ]
    others = [layer.name for layer in model.layers if computes_otherwise(layer)]
    if others:
        problems.append(
            f"{len(others)} attention layers that compute otherwise: {others[0]!r}, ..."
        )
    return problems


def _is_count(key, keys):
    prefix, _, name = key.rpartition(".")
    return name == "num_batches_tracked" and f"{prefix}.running_mean" in keys


def _what_it_is(arrays):
    try:
        arguments = describe_checkpoint(arrays)
    except CheckpointError as error:
        return str(error)
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"The file holds a ResNet({given})."


def model_from_checkpoint(path, image_size=None, **arguments):
    """A `ResNet` as a PyTorch checkpoint has it, with its weights.

    Args:
        path: see `load_pytorch_checkpoint`.
        image_size: int, side of the pictures. Defaults to `None`: 224, or 32 for CIFAR's stem.
        **arguments: arguments of `ResNet` that override what the file tells, or that it does not
            tell.

    Returns:
        A `keras.Model` from pixels in [0, 255] to class probabilities, or to features if the file
        has no classifier.

    Raises:
        CheckpointError, ImportError: as `load_pytorch_checkpoint`.
        ValueError: if `image_size` is not a positive integer.

    Example:

    >>> model = model_from_checkpoint("resnet50_cbam.pth")
    >>> model.save("resnet50_cbam.keras")
    """
    arrays = read_checkpoint(path)
    arguments = {**describe_checkpoint(arrays), **arguments}
    if image_size is None:
        image_size = 32 if arguments.get("stem") == "cifar" else 224
    size = positive_integer("image_size", image_size)
    is_first = keras.config.image_data_format() == "channels_first"
    shape = (3, size, size) if is_first else (size, size, 3)
    try:
        model = ResNet(**arguments, input_shape=shape)
    except ValueError as error:
        raise CheckpointError(f"The checkpoint {str(path)!r} fits no network: {error}") from error
    return _load(model, arrays, path, skip_head=False)
