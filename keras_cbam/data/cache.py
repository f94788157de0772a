"""Pictures of files, decoded once and kept on the disk as an array."""

import hashlib
import json
import os
import pathlib
import tempfile

import numpy as np

from keras_cbam.data.image_files import read_pictures
from keras_cbam.data.labelled_images import Rows
from keras_cbam.errors import DataError, quoted


def cached_pictures(paths, size, cache):
    """What `read_pictures` gives, from a folder of arrays, where it is written at the first time.

    The pictures are not held in memory, so that there may be more of them than fit. A file of the
    folder is for these very files, by path, size and time of change, at this size of pictures; it
    is written anew if it is damaged, or if a picture can be read that could not be. Nothing is
    removed from the folder.

    Args:
        paths: list of strings.
        size: int, side of the pictures in pixels.
        cache: path of a folder, which is made if there is none.

    Returns:
        `Rows` of all pictures, and a list with, for each path, `None` or the reason why it could
        not be decoded.

    Raises:
        DataError: if the path is not that of a folder.
        OSError: if the folder or a file in it cannot be written.
    """
    folder = pathlib.Path(cache)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"The cache must be a folder, received {quoted(cache)}.")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"pictures-{_digest(paths, size)}.npy"
    found = _read(target, paths, size)
    if found is None:
        _write(target, paths, size)
        found = _read(target, paths, size)
    if found is None:
        raise DataError(f"The cache {quoted(target)} cannot be read.")
    return found


def _read(target, paths, size):
    """The pictures and reasons in a cache; `None` if there is none that holds."""
    try:
        reasons = json.loads(target.with_suffix(".json").read_text())
        images = np.load(target, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        # There is none yet, or it was damaged: it can be written anew.
        return None
    if images.shape != (len(paths), size, size, 3) or len(reasons) != len(paths):
        return None
    failed = [path for path, reason in zip(paths, reasons) if reason is not None]
    # A file that could not be read then may be readable now.
    if None in read_pictures(failed, size)[1]:
        return None
    return Rows(images, np.arange(len(images))), reasons


def _write(target, paths, size):
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as scratch:
        array, about = (pathlib.Path(scratch) / name for name in ("array", "about"))
        _reserve(array, (len(paths), size, size, 3))
        images = np.lib.format.open_memmap(array, "r+")
        _, reasons = read_pictures(paths, size, images)
        images.flush()
        del images
        with open(about, "w") as file:
            json.dump(reasons, file)
            file.flush()
            os.fsync(file.fileno())
        array.replace(target)
        # Last, as it says that the array is whole.
        about.replace(target.with_suffix(".json"))


def _reserve(path, shape):
    """An array file whose place on the disk is taken: a full disk later would kill the process."""
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        rest, zeros = int(np.prod(shape, dtype="int64")), bytes(2**20)
        while rest > 0:
            rest -= file.write(zeros[:rest])


def _digest(paths, size):
    digest = hashlib.sha256(f"1 {size}".encode())
    for path in paths:
        try:
            status = os.stat(path)
            facts = (status.st_size, status.st_mtime_ns)
        except OSError:
            facts = None
        absolute = os.path.abspath(path).encode(errors="surrogateescape")
        digest.update(repr((absolute, facts)).encode())
    return digest.hexdigest()[:32]
