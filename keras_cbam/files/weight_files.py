"""Loads the weights of a file into a model, by the names of its layers."""

import collections
import contextlib
import os
import re
import typing
from collections.abc import Callable, Iterator

import h5py
import keras
import numpy as np

from keras_cbam._compat import inner_layers
from keras_cbam.errors import LONGEST_REASON, WeightsError, first_line
from keras_cbam.files.model_files import check_arrays, check_h5, load_keras_file


def named_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """`{name: layer}` of the layers that hold weights, nested models included."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(named_layers(layer))
        elif layer.weights:
            found[layer.name] = layer
    return found


def finalize(layer: keras.layers.Layer) -> None:
    """Lets a layer renew what it derived from its variables, as `Normalization` its constants."""
    for inner in inner_layers(layer):
        if hasattr(inner, "finalize_state"):
            inner.finalize_state()


def read_named_weights(path: str | os.PathLike) -> dict[str, list[np.ndarray]]:
    """`{layer name: arrays}` of a `.keras` file or an `.npz` keyed `<layer>/<index>`.

    Raises WeightsError if the file cannot be read as what its name says.
    """
    is_model = str(path).endswith(".keras")
    try:
        if is_model:
            layers = named_layers(load_keras_file(path))
            return {name: layer.get_weights() for name, layer in layers.items()}
        return _read_npz(path)
    except Exception as error:
        # A damaged archive fails in zipfile, zlib, json, h5py, NumPy or Keras, each in its own way.
        what = f"Cannot load the Keras model {str(path)!r}"
        if not is_model:
            what = f"The weights file {str(path)!r} is not an .npz with keys '<layer>/<index>'"
        raise WeightsError(f"{what}: {first_line(error)}") from error


def _read_npz(path):
    weights = {}
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        check_arrays(arrays)
        for key in sorted(arrays.files, key=lambda key: int(key.rpartition("/")[2])):
            name, _, index = key.rpartition("/")
            array = arrays[key]
            if int(index) != len(weights.setdefault(name, [])):
                raise ValueError(f"the indices of {name!r} are not 0, 1, ...")
            if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
                raise ValueError(f"{key!r} is not an array of finite numbers")
            weights[name].append(array)
    return weights


def load_named_weights(
    model: keras.Model, path: str | os.PathLike, may_lack: Callable[[keras.layers.Layer], bool]
) -> list[str]:
    """Sets a model's weights from a file, by layer name; raises WeightsError unless all fit.

    Layers with `may_lack(layer)` may be missing from the file; their names are returned.
    """
    weights = read_named_weights(path)
    layers = named_layers(model)
    left = [name for name, layer in layers.items() if may_lack(layer) and name not in weights]
    differences = []
    for name, layer in layers.items():
        if name in left:
            continue
        expected = [tuple(weight.shape) for weight in layer.weights]
        found = [array.shape for array in weights.get(name, [])]
        if not found:
            differences.append(f"{name!r} is not in the file")
        elif found != expected:
            differences.append(f"{name!r} has shapes {found} in the file, {expected} in the model")
    if differences:
        more = f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise WeightsError(
            f"The weights file {str(path)!r} does not fit {model.name!r}: "
            f"{len(differences)} of {len(layers)} layers differ: "
            f"{'; '.join(differences[:5])}{more}."
        )
    for name, layer in layers.items():
        if name not in left:
            layer.set_weights(weights[name])
            finalize(layer)
    return left


def count_h5_layers(path: str | os.PathLike) -> collections.Counter[str]:
    """The number of layers in a `.weights.h5` file, by the name that Keras gives to their class."""
    try:
        check_h5(path, os.path.getsize(path))
        with h5py.File(path) as file:
            layers = typing.cast(h5py.Group, file["layers"]) if "layers" in file else ()
            return collections.Counter(re.sub(r"_\d+$", "", str(name)) for name in layers)
    except Exception as error:
        # A damaged file fails in any part of h5py, with errors of its own.
        raise WeightsError(
            f"The weights file {str(path)!r} is not an HDF5 file of weights: {first_line(error)}"
        ) from error


def load_h5_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads a `.weights.h5` file by Keras; raises WeightsError if it does not fit."""
    try:
        model.load_weights(path)
    except Exception as error:
        # Of many kinds, as above.
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise WeightsError(
            f"The weights file {str(path)!r} does not fit {model.name!r}: {reason}"
        ) from error


@contextlib.contextmanager
def downloading_weights() -> Iterator[None]:
    """Within the block, a download that fails is a `WeightsError` that says what to do."""
    try:
        yield
    except Exception as error:
        # Keras raises a bare Exception for what it knows, and passes other errors of the network.
        if "URL fetch failure" not in str(error) and not isinstance(error, OSError):
            raise
        raise WeightsError(
            f"The ImageNet weights cannot be downloaded: {first_line(error)}. Use random weights "
            "(`weights=None`), or weights from a file (its path as `weights`)."
        ) from error
