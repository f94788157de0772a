"""Pictures of files, decoded once and kept on the disk as an array."""

import hashlib
import json
import os
import pathlib

import numpy as np

from keras_cbam.training.data_set import Rows
from keras_cbam.training.pictures import read_pictures


def cached_pictures(paths, size, cache):
    """What `read_pictures` gives, from a folder of arrays, where it is written at the first time.

    The pictures are not held in memory, so that there may be more of them than fit. A file of the
    folder is for these very files, by path, size and time of change, at this size of pictures.

    Args:
        paths: list of strings.
        size: int, side of the pictures in pixels.
        cache: path of a folder, which is made if there is none.

    Returns:
        `Rows` of all pictures, and a list with, for each path, `None` or the reason why it could
        not be decoded.

    Raises:
        OSError: if the folder or a file in it cannot be written.
    """
    folder = pathlib.Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"pictures-{_digest(paths, size)}.npy"
    about = target.with_suffix(".json")
    if not about.exists():
        scratch = target.with_suffix(f".{os.getpid()}.partial")
        shape = (len(paths), size, size, 3)
        try:
            _reserve(scratch, shape)
            images = np.lib.format.open_memmap(scratch, "r+")
            _, reasons = read_pictures(paths, size, images)
            images.flush()
            del images
            scratch.replace(target)
            # Last, as it says that the array is whole.
            scratch.write_text(json.dumps(reasons))
            scratch.replace(about)
        finally:
            scratch.unlink(missing_ok=True)
    images = np.load(target, mmap_mode="r")
    return Rows(images, np.arange(len(images))), json.loads(about.read_text())


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
