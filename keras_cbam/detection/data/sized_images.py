"""The images of a `DetectionSet`, which have sizes of their own, read by their indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_cbam.data.image_files import FORMATS, flatten
from keras_cbam.data.image_sources import FileImages
from keras_cbam.errors import DataError, quoted


class SizedImages(FileImages):
    """Image files, each of a known size, decoded when they are asked for.

    A file that cannot be decoded, or is not of its size, is a failure, see `FileImages`. Where EXIF
    data turn an image, the boxes are for whichever of both, upright or as stored, has its size, and
    for the upright image where both have.
    `images[index]` is a uint8 array `(height, width, 3)`; DataError for a failure.

    Args:
        paths: list of strings.
        sizes: int array `(images, 2)`, the height and width in pixels that the boxes are for.
        strict: bool, whether a failure is an error, not left out. Defaults to `False`.

    Example:

    >>> SizedImages(["street.jpg"], np.array([[480, 640]]))[0].shape
    (480, 640, 3)
    """

    def __init__(self, paths: Sequence[str], sizes: np.ndarray, strict: bool | None = False):
        # There is no one size.
        super().__init__(paths, 0, strict=strict)
        self.sizes = sizes

    def select(self, indices: Any) -> "SizedImages":
        return SizedImages([self.paths[int(i)] for i in indices], self.sizes[indices], self.strict)

    def __getitem__(self, index):
        pixels, _ = self.read_each([index], lambda image, _: np.asarray(image))
        if not len(pixels):
            raise DataError(
                f"The image {quoted(self.paths[index])} cannot be used: {self.failures[index]}."
            )
        return pixels[0]

    def _decoded(self, index, position, transform):
        path, (height, width) = str(self.paths[index]), self.sizes[index]

        def of_its_size(image, position):
            if image.size == (height, width) != (width, height):
                with Image.open(path, formats=FORMATS) as stored:
                    image = flatten(stored) if stored.size == (width, height) else image
            if image.size == (width, height):
                return transform(image.convert("RGB"), position)
            self.failures[index] = (
                f"it is {image.width} pixels wide and {image.height} high, its boxes are for "
                f"{width} and {height}"
            )
            return None

        return super()._decoded(index, position, of_its_size)
