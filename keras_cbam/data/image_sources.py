"""Images in files or in an array, read by their indices."""

import os
import threading
import typing
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from keras_cbam.data.crops import evaluation_crop
from keras_cbam.data.image_files import (
    decoding,
    in_threads,
    open_image,
    square,
    why_unreadable,
)
from keras_cbam.data.order import spread
from keras_cbam.errors import DataError, one_of, printable

# Bytes that the decoded images of one source may take to be kept in memory.
LARGEST_IN_MEMORY = 2 * 10**9
# Part of the images that may be unreadable.
MOST_UNREADABLE = 0.1
# Images by which an array is told from others.
_SAMPLE = 256


def stop_if_too_many(lines, images, strict):
    """Raises DataError if there are lines on more than one image in ten, or on any if `strict`."""
    if len(lines) > MOST_UNREADABLE * images or (strict and lines):
        raise DataError(
            f"{len(lines)} of {images} images cannot be read, the first is {lines[0].rstrip('.')}."
        )


class ArrayImages:
    """The images of a uint8 array `(images, size, size, 3)`, with the interface of `FileImages`.

    Images of sizes of their own are a list of arrays, for `read_each`.
    """

    def __init__(self, array: typing.Any) -> None:
        self.array, self.failures, self.error = array, {}, None

    @property
    def shape(self):
        return self.array.shape

    def __len__(self):
        return len(self.array)

    def select(self, indices):
        return ArrayImages(self.array[indices])

    def read(self, indices, transform=None):
        if transform is None:
            return self.array[indices], np.ones(len(indices), bool)
        made, kept = self.read_each(indices, transform)
        return np.stack(list(made)), kept

    def read_each(self, indices, transform):
        array = self.array
        made = in_threads(lambda i: transform(Image.fromarray(array[indices[i]]), i), len(indices))
        return np.fromiter(made, object), np.ones(len(made), bool)

    def failure_lines(self):
        return []

    def facts(self, root):
        yield from (self.array[index].tobytes() for index in spread(len(self), _SAMPLE))


class FileImages:
    """The images of files, decoded when they are asked for.

    Images that are read without a transform are kept, if all of them take at most 2 GB.

    Args:
        paths: list of strings.
        size: int, side of the images in pixels.
        resize: how images are brought to that size: `"square"`, the centre square resized, or
            `"center_crop"`, see `evaluation_crop`. Defaults to `"square"`.
        strict: bool, whether an image that cannot be decoded is an error. Defaults to `False`: it
            is left out, and more than one in ten are an error. `None`: none is.

    Attributes:
        shape: tuple, `(images, size, size, 3)`.
        failures: dict `{index: reason}` of the images that could not be decoded so far.
        error: `None`, or the last `DataError` of `read`, as TensorFlow's threads do not keep it.

    Example:

    >>> images = FileImages(["cat.jpg", "dog.webp"], 224)
    >>> pixels, kept = images.read([0, 1])
    """

    def __init__(
        self, paths: Sequence[str], size: int, resize: str = "square", strict: bool | None = False
    ) -> None:
        one_of("square", "center_crop")("resize", resize)
        self.paths, self.resize, self.strict = paths, resize, strict
        self.shape = (len(paths), size, size, 3)
        self.failures, self.error = {}, None
        self._fits = int(np.prod(self.shape, dtype="int64")) <= LARGEST_IN_MEMORY
        self._lock = threading.Lock()
        self._pixels: typing.Any = None
        self._is_held = np.zeros(len(paths), bool)

    def __len__(self):
        return len(self.paths)

    def select(self, indices):
        """A source of the images of an int array of indices."""
        paths = [self.paths[int(index)] for index in indices]
        return FileImages(paths, self.shape[1], self.resize, self.strict)

    def read(self, indices, transform=None):
        """Decodes images, by a thread for each core.

        Args:
            indices: int array `(selected,)`.
            transform: callable from a `PIL.Image.Image` of mode `"L"` or `"RGB"` and its position
                in `indices` to a uint8 array `(size, size, 3)`. Defaults to `None`: `resize`.

        Returns:
            uint8 array `(kept, size, size, 3)` of the images that can be decoded, and a bool array
            `(selected,)`, which they are.

        Raises:
            DataError: if an image of a strict source, or more than one in ten, cannot be decoded.
        """
        pixels = np.empty((len(indices), *self.shape[1:]), "uint8")
        kept = np.zeros(len(indices), bool)

        def decode(position):
            found = self._decoded(int(indices[position]), position, transform)
            if found is not None:
                pixels[position], kept[position] = found, True

        in_threads(decode, len(indices))
        self._check()
        return (pixels if kept.all() else pixels[kept]), kept

    def read_each(self, indices, transform):
        """As `read`, but an object array of whatever `transform` returns, for images of any size.

        An image of which that is `None` counts as one that cannot be decoded.
        """
        found = in_threads(lambda i: self._decoded(int(indices[i]), i, transform), len(indices))
        self._check()
        kept = np.array([each is not None for each in found], bool)
        return np.fromiter(found, object)[kept], kept

    def failure_lines(self):
        """A line `"path: reason"` for each image that could not be decoded so far."""
        # Copied, as other threads may be reading.
        failures = sorted(self.failures.copy().items())
        return [f"{printable(self.paths[index])}: {reason}" for index, reason in failures]

    def facts(self, root):
        """What tells these images from others, as bytes: where in `root` they are, and sizes."""
        for path in self.paths:
            place = os.path.relpath(path, root).replace(os.sep, "/")
            yield repr((place, os.path.getsize(path))).encode()

    def _check(self):
        is_limited = self.strict is not None
        if self.strict or (is_limited and len(self.failures) > MOST_UNREADABLE * len(self)):
            try:
                stop_if_too_many(self.failure_lines(), len(self), self.strict)
            except DataError as error:
                self.error = error
                raise

    def _decoded(self, index, position, transform):
        """The pixels of an image; `None` if it cannot be decoded, now or before."""
        if index in self.failures:
            return None
        if transform is None and self._is_held[index]:
            return self._pixels[index]
        size = self.shape[1]
        # Twice the target keeps the filtering.
        is_draft = transform is None and self.resize == "square"
        try:
            image = open_image(self.paths[int(index)], draft_size=2 * size if is_draft else None)
        except Exception as error:
            # Pillow raises any of a dozen kinds on damaged files.
            self.failures[index] = why_unreadable(error)
            return None
        if transform is not None:
            return transform(image, position)
        found = square(image, size) if is_draft else evaluation_crop(image, size)
        if self._fits:
            with self._lock:
                if self._pixels is None:
                    self._pixels = np.empty(self.shape, "uint8")
            self._pixels[index] = found
            self._is_held[index] = True
        return found


def image_batches(
    paths: Sequence[str],
    batch_size: int,
    skipped: list[str],
    size: int = 0,
    resize: str = "square",
    transform: typing.Any = None,
) -> Iterator[tuple]:
    """Yields image files in batches: their paths, and pixels or what `transform` returns.

    Lines on those that cannot be decoded are added to `skipped`; DataError if none can be.
    """
    is_any_read, before = False, len(skipped)
    for start in range(0, len(paths), batch_size):
        images = FileImages(paths[start : start + batch_size], size, resize, strict=None)
        indices = np.arange(len(images))
        with decoding():
            found, kept = (
                images.read(indices) if transform is None else images.read_each(indices, transform)
            )
        skipped += images.failure_lines()
        if kept.any():
            is_any_read = True
            yield [path for path, is_kept in zip(images.paths, kept) if is_kept], found
    if not is_any_read:
        raise DataError(f"None of the images can be read, the first is {skipped[before]}.")
