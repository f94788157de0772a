"""Weights from a file into a model, layer by layer name."""

import contextlib

import keras
import numpy as np

from keras_cbam._compat import inner_layers
from keras_cbam.errors import WeightsError, first_line
from keras_cbam.files.model_files import check_arrays, load_keras_file


def named_layers(model):
    """`{name: layer}` of the layers that hold weights, nested models included."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(named_layers(layer))
        elif layer.weights:
            found[layer.name] = layer
    return found


def finalize(layer):
    """Lets a layer renew what it derived from its variables, as `Normalization` its constants."""
    for inner in inner_layers(layer):
        if hasattr(inner, "finalize_state"):
            inner.finalize_state()


def read_named_weights(path):
    """`{layer name: arrays}` of a `.keras` file or an `.npz` keyed `<layer>/<index>`.

    WeightsError if the file cannot be read as what its name says.
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


def load_named_weights(model, path, may_lack):
    """Sets a model's weights from a file, by layer name; WeightsError unless all of them fit.

    Layers with `may_lack(layer)` may be missing from it; their names are returned.
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


@contextlib.contextmanager
def downloading_weights():
    """Within the block, a download that fails is a `WeightsError`."""
    try:
        yield
    except Exception as error:
        # Keras raises a bare Exception.
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(f"The ImageNet weights cannot be downloaded: {error}") from error
