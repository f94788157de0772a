"""Checks Keras' own files before Keras reads them: the installed release may check less."""

import json
import os
import pathlib
import re
import stat
import typing
import zipfile

import h5py
import h5py.h5o
import keras

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# Bytes above which compressed arrays must not grow by more than this when they are read.
_LARGE, _EXPANSION = 2**30, 100
# Keras loads these if its global setting allows code, whatever `safe_mode` says.
_CODE = ("__lambda__", "TFSMLayer", "TorchModuleWrapper")


def read_config(path: str | os.PathLike) -> bytes:
    """The JSON configuration in a `.keras` file; ValueError if Keras did not write the archive."""
    with zipfile.ZipFile(path) as archive:
        _check_members(archive, os.path.getsize(path))
        return archive.read(CONFIG)


def load_keras_file(path: str | os.PathLike) -> keras.Model:
    """The model of a `.keras` file, not compiled; code in the file is never run."""
    _check_config(json.loads(read_config(path)))
    with zipfile.ZipFile(path) as archive:
        # Keras reads weights without comparing their checksum where that differs.
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"its member {damaged!r} is damaged")
        with archive.open(WEIGHTS) as file:
            check_h5(file, archive.getinfo(WEIGHTS).file_size)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except TypeError as error:
        unknown = re.search(r"Could not locate class '(\w+)'", str(error))
        if not unknown:
            raise
        raise ValueError(
            f"its class {unknown[1]!r} is not known: import the package that defines it (for a "
            "detector `keras_cbam.detection`), or give the command the folder of its run"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, not a model")
    return model


def _check_members(archive, size):
    # What Keras writes is never compressed: reading it takes no more memory than it has bytes.
    for member in archive.infolist():
        name = pathlib.PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(f"its member {member.filename!r} leads outside the archive")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its member {member.filename!r} is compressed, as Keras' are not")
    if sum(member.file_size for member in archive.infolist()) > size:
        raise ValueError("its members claim more bytes than the file has")
    for name in (CONFIG, WEIGHTS):
        if name not in archive.namelist():
            raise ValueError(f"it has no member {name!r}")


def _check_config(config):
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            # Keras finds a class also by `{"module": "keras", "class_name": "layers.Name"}`.
            name = str(part.get("class_name")).rpartition(".")[2]
            if name in _CODE:
                raise ValueError(f"its {name.strip('_')} may run code, which is not allowed")
            if isinstance(part.get("vocabulary"), str):
                raise ValueError("its vocabulary is that of another file, which is not allowed")
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def check_h5(file: typing.Any, size: int) -> None:
    """Raises ValueError if an HDF5 file of `size` bytes leads elsewhere or claims to hold more."""
    with h5py.File(file, "r") as root:
        waiting, seen = [typing.cast(h5py.Group, root)], set()
        while waiting:
            group = waiting.pop()
            for name in group:
                if group.get(name, getclass=True, getlink=True) is not h5py.HardLink:
                    raise ValueError(f"its weights {name!r} are a link to others")
                item = group[name]
                place = h5py.h5o.get_info(item.id).addr
                if place in seen:
                    continue
                seen.add(place)
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                elif isinstance(item, h5py.Dataset):
                    _check_h5_array(item, size)


def _check_h5_array(array, size):
    if array.dtype.kind not in "biuf":
        raise ValueError(f"its weights {array.name!r} are not numbers")
    if array.external or array.is_virtual:
        raise ValueError(f"its weights {array.name!r} are in another file")
    if array.id.get_create_plist().get_nfilters():
        raise ValueError(f"its weights {array.name!r} are compressed, as Keras' are not")
    if array.nbytes > size:
        raise ValueError(f"its weights {array.name!r} claim more bytes than the file has")


def check_arrays(arrays: typing.Any) -> None:
    """Raises ValueError if what `np.load` opened would fill the memory by next to nothing."""
    members = arrays.zip.infolist()
    claimed = sum(member.file_size for member in members)
    if claimed > _LARGE and claimed > _EXPANSION * sum(member.compress_size for member in members):
        raise ValueError(f"its arrays claim {claimed:,} bytes, many times what the file holds")
