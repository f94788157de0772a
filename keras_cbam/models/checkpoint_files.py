"""The tensors of a PyTorch checkpoint file, read without running code of the file."""

import os
import pickle

import numpy as np

from keras_cbam.errors import CheckpointError


def read_checkpoint(path):
    """The tensors of a checkpoint as arrays, by their names without the prefix `module.`.

    Args:
        path: a `.safetensors` file, or what `torch.save` wrote: a dict of tensors, or a dict with
            such a one under `"state_dict"`. It is read with `weights_only=True`.

    Returns:
        Dict of arrays; floating ones are float32.

    Raises:
        CheckpointError: if there is no such file, it is damaged, holds anything but tensors, or
            cannot be read without running code that is in it.
        ImportError: if PyTorch or safetensors is not installed.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"No such checkpoint file: {path!r}.")
    tensors = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not tensors:
        raise CheckpointError(f"The checkpoint {path!r} holds no dict of tensors.")
    arrays = {}
    for key, tensor in tensors.items():
        if not hasattr(tensor, "shape"):
            raise CheckpointError(
                f"The checkpoint {path!r} must hold tensors only, by their names or so under "
                f"'state_dict', received a {type(tensor).__name__} under {key!r}."
            )
        name = str(key).removeprefix("module.")
        if name in arrays:
            raise CheckpointError(f"The checkpoint {path!r} holds the tensor {name!r} twice.")
        arrays[name] = _array(path, key, tensor)
    return arrays


def _is_safetensors(path):
    if path.endswith(".safetensors"):
        return True
    try:
        with open(path, "rb") as file:
            # The length of a header in JSON, and the header.
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path!r} cannot be read: {error.strerror}."
        ) from error


def _array(path, key, tensor):
    if isinstance(tensor, np.ndarray):
        return tensor.astype("float32") if tensor.dtype.kind == "f" else tensor
    if str(tensor.layout) != "torch.strided" or tensor.is_meta or tensor.is_quantized:
        raise CheckpointError(
            f"The checkpoint {path!r} holds no plain tensor under {key!r}, but a sparse, empty or "
            "quantized one."
        )
    tensor = tensor.detach().cpu()
    # NumPy has no bfloat16.
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _reason(error):
    return str(error).strip().partition(".")[0] or type(error).__name__


def _read_safetensors(path):
    try:
        import safetensors.numpy
    except ImportError as error:
        raise _missing("safetensors", path) from error
    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:
        # Of many kinds, as NumPy's of a type that it lacks.
        raise CheckpointError(
            f"The file {path!r} is no checkpoint, or is damaged: {error}."
        ) from error


def _read_torch(path):
    try:
        import torch
    except ImportError as error:
        raise _missing("PyTorch", path) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged file fails in pickle, struct, zipfile or PyTorch, each with errors of its own.
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            raise CheckpointError(
                f"The checkpoint {path!r} holds more than tensors, and reading it would run code "
                "that is in it, which is refused. Where you trust it, load it with PyTorch and "
                "save its `state_dict` alone."
            ) from error
        raise CheckpointError(
            f"The file {path!r} is no PyTorch checkpoint, or is damaged: {_reason(error)}."
        ) from error


def _missing(package, path):
    return ImportError(
        f"Reading {path!r} needs {package}, which is not installed: pip install keras_cbam[torch]"
    )
