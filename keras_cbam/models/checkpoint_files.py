"""The tensors of a PyTorch checkpoint file, read without running code of the file."""

import os
import pickle

import numpy as np

from keras_cbam.errors import CheckpointError, first_line


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file as arrays, floating ones as float32, by names without `module.`."""
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"No such checkpoint file: {path!r}.")
    tensors = _content(path)
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


def _content(path):
    try:
        with open(path, "rb") as file:
            header = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {path!r} cannot be read: {error.strerror}."
        ) from error
    try:
        # safetensors starts with the length of a header in JSON, and the header.
        if path.endswith(".safetensors") or header[8:] == b"{":
            import safetensors.numpy

            return safetensors.numpy.load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ImportError(
            f"Reading {path!r} needs the package {error.name}, which is not installed: "
            "pip install keras_cbam[torch]"
        ) from error
    except Exception as error:
        # A damaged file fails in many libraries, each with errors of its own.
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper():
            raise CheckpointError(
                f"The checkpoint {path!r} holds more than tensors, and reading it would run code "
                "that is in it, which is refused. Where you trust it, load it with PyTorch and "
                "save its `state_dict` alone."
            ) from error
        reason = first_line(error).partition(". ")[0]
        raise CheckpointError(
            f"The file {path!r} is no PyTorch checkpoint, or is damaged: {reason}."
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
