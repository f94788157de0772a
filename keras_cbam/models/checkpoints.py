"""Released PyTorch checkpoints into the paper's residual networks."""

import os
import warnings
from typing import Any

import keras
import numpy as np

from keras_cbam.errors import CheckpointError
from keras_cbam.models.building import image_shape
from keras_cbam.models.checkpoint_files import read_checkpoint
from keras_cbam.models.checkpoint_keys import computes_otherwise, describe_checkpoint, layer_entries
from keras_cbam.models.resnet import ResNet


def load_pytorch_checkpoint(
    model: keras.Model, path: str | os.PathLike, skip_head: bool = False
) -> keras.Model:
    """Sets the weights of a `ResNet` from a PyTorch checkpoint, of which no code is run.

    The layout is that of the official code (CBAM and BAM) or of timm (`attn_layer="cbam"`), whose
    multilayer perceptron has no biases: ours are set to zero, with a warning. A model that strides
    in the first 1x1 convolution is loaded with a warning too: released ones stride in the 3x3.

    Args:
        model: `keras.Model` of `ResNet`, with the attention of the checkpoint.
        path: `.safetensors` file, or a file of `torch.save`: a dict of tensors, whose names may
            have the prefix `module.`, or a dict with one under `"state_dict"`.
        skip_head: bool, whether the classifier is left as it is, with a warning: for another
            number of classes, or `include_top=False`. Defaults to `False`.

    Returns:
        The model.

    Raises:
        CheckpointError: unless the file can be read, and each tensor has its place and each weight
            its tensor, finite and of its shape. The message names what differs, and the model is
            unchanged.
        ImportError: if PyTorch (for `.safetensors`, safetensors) is not installed.

    Example:

    >>> model = load_pytorch_checkpoint(ResNet(50), "resnet50_cbam.pth")

    Reference:

    - [Official code of CBAM and BAM](https://github.com/Jongchan/attention-module)
    """
    return _load(model, read_checkpoint(path), path, skip_head)


def _load(model, arrays, path, skip_head):
    layout = "timm" if any(".se.channel." in key for key in arrays) else "official"
    head = [layer for layer in model.layers if skip_head and layer.name == "fc"]
    layers = [layer for layer in model.layers if layer not in head]
    entries = [entry for layer in layers for entry in layer_entries(layer, layout)]
    biases = [entry.variable for entry in entries if entry.key is None]
    entries = [entry for entry in entries if entry.key is not None]
    used = {k: a for k, a in arrays.items() if not (skip_head and k.startswith("fc."))}
    problems = _problems(layers, entries, biases, used)
    if problems:
        raise CheckpointError(
            f"The checkpoint {str(path)!r} does not fit {model.name!r}: {'; '.join(problems)}. "
            f"{_what_it_is(arrays)}"
        )
    for entry in entries:
        entry.variable.assign(entry.convert(arrays[entry.key]))
    for bias in biases:
        bias.assign(np.zeros(bias.shape, "float32"))
    notes = []
    if biases:
        notes.append(
            f"timm's attention has no biases: {len(biases)} biases of the attention of "
            f"{model.name!r} are set to zero."
        )
    if head:
        notes.append(f"The classifier of {model.name!r} is not from the checkpoint {str(path)!r}.")
    by_name = {layer.name: layer for layer in layers}
    if "layer2_0_conv3" in by_name and by_name["layer2_0_conv1"].strides[0] > 1:
        notes.append(
            f"{model.name!r} strides in the first 1x1 convolution, released checkpoints in the 3x3."
        )
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return model


def _problems(layers, entries, biases, arrays):
    """What differs between a model and a file, whose layout lacks `biases`, in phrases."""
    keys = [entry.key for entry in entries]
    places = {*keys, *(key.replace(".running_mean", ".num_batches_tracked") for key in keys)}
    known = {id(variable) for variable in [*biases, *(entry.variable for entry in entries)]}
    weights = [weight for layer in layers for weight in layer.weights]
    found = [(entry, arrays[entry.key]) for entry in entries if entry.key in arrays]
    kinds = {
        "missing from the file": [repr(key) for key in keys if key not in arrays],
        "of the file without a place in the model": [
            repr(key) for key in arrays if key not in places
        ],
        "of another shape": [
            f"{e.key!r} {array.shape} for {e.shape}" for e, array in found if array.shape != e.shape
        ],
        "that are not floating-point": [repr(e.key) for e, a in found if a.dtype.kind != "f"],
        "not finite": [repr(e.key) for e, a in found if not np.isfinite(a).all()],
        "that are negative variances": [
            repr(e.key) for e, a in found if e.key.endswith(".running_var") and np.any(a < 0)
        ],
        "that no checkpoint has": [repr(w.path) for w in weights if id(w) not in known],
    }
    problems = [
        f"{len(names)} tensors {kind}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}"
        for kind, names in kinds.items()
        if names
    ]
    others = [layer.name for layer in layers if computes_otherwise(layer)]
    if others:
        problems.append(f"{len(others)} attention layers that compute otherwise: {others[0]!r}")
    return problems


def _what_it_is(arrays):
    try:
        arguments = describe_checkpoint(arrays)
    except CheckpointError as error:
        return str(error)
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"The file holds a ResNet({given})."


def model_from_checkpoint(
    path: str | os.PathLike, image_size: int | None = None, **arguments: Any
) -> keras.Model:
    """The `ResNet` of a PyTorch checkpoint; `arguments` override or complete what it tells."""
    arrays = read_checkpoint(path)
    arguments = {**describe_checkpoint(arrays), **arguments}
    if image_size is None:
        image_size = 32 if arguments.get("stem") == "cifar" else 224
    shape = image_shape(image_size)
    try:
        model = ResNet(**arguments, input_shape=shape)
    except ValueError as error:
        raise CheckpointError(f"The checkpoint {str(path)!r} fits no network: {error}") from error
    return _load(model, arrays, path, skip_head=False)
