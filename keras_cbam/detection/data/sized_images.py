"""The images of a `DetectionSet`, which have sizes of their own, read by their indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_cbam.data.image_files import FORMATS, flatten, in_threads
from keras_cbam.data.image_sources import FileImages
from keras_cbam.errors import DataError, quoted


class SizedImages(FileImages):
    """Image files, each of a known size, decoded when they are asked for.

    A file that cannot be decoded, or is not of its size, is a failure, see `FileImages`. Where EXIF
    data turn an image, the boxes are for whichever of both, upright or as stored, has its size.
    `images[index]` is a uint8 array `(height, width, 3)`; DataError for a failure.

    Args:
        paths: list of strings.
        sizes: int array `(images, 2)`, the height and width in pixels that the boxes are for.
        strict: bool, whether a failure is an error, not left out. Defaults to `False`.

    Example:

    >>> SizedImages(["street.jpg"], np.array([[480, 640]]))[0].shape
    (480, 640, 3)
    """

    def __init__(self, paths: Sequence[str], sizes: np.ndarray, strict: bool = False):
        # There is no one size.
        super().__init__(paths, 0, strict=strict)
        self.sizes = sizes

    def select(self, indices: Any) -> "SizedImages":
        return SizedImages([self.paths[int(i)] for i in indices], self.sizes[indices], self.strict)

    def __getitem__(self, index):
        pixels, _ = self.read([index], lambda image, _: np.asarray(image))
        if not pixels:
            raise DataError(
                f"The image {quoted(self.paths[index])} cannot be used: {self.failures[index]}."
            )
        return pixels[0]

    def read(self, indices: Any, transform: Any) -> tuple[list, np.ndarray]:
        """As `FileImages.read`: a list of what `transform` returned, and which images those are."""

        def of_its_size(image, position):
            height, width = self.sizes[indices[position]]
            if image.size == (height, width) != (width, height):
                with Image.open(self.paths[int(indices[position])], formats=FORMATS) as stored:
                    image = flatten(stored) if stored.size == (width, height) else image
            if image.size == (width, height):
                return transform(image.convert("RGB"), position)
            self.failures[int(indices[position])] = (
                f"it is {image.width} pixels wide and {image.height} high, its boxes are for "
                f"{width} and {height}"
            )
            return None

        found = in_threads(lambda i: self._decoded(int(indices[i]), i, of_its_size), len(indices))
        self._check()
        kept = np.array([each is not None for each in found], bool)
        return [each for each in found if each is not None], kept


def read_images(images: Any, indices: Any, transform: Any) -> tuple[list, np.ndarray]:
    """`SizedImages.read` of any images of a `DetectionSet`."""
    if isinstance(images, SizedImages):
        return images.read(indices, transform)

    found = in_threads(lambda i: transform(Image.fromarray(images[indices[i]]), i), len(indices))
    return found, np.ones(len(indices), bool)
