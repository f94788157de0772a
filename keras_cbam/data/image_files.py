"""Image files, and arrays of images, as square RGB pixels."""

import concurrent.futures
import contextlib
import functools
import os
import typing
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_cbam.errors import printable

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
# Of these formats, and of those of telephones, so that a photo that cannot be read is named.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif"),
)
NOT_AN_IMAGE = "not a JPEG, PNG, GIF, BMP, WebP or TIFF image"
_CORES = os.cpu_count() or 1
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def flatten(image):
    """A Pillow image of any mode as one of mode `"L"` or `"RGB"`, on white where transparent."""
    if image.mode.startswith("I"):
        # Pillow clips 16 bits to 8 where it should scale them.
        levels = np.asarray(image)
        pixels = np.rint(np.clip(levels, 0, 65535) / 257).astype("uint8")
        pixels[levels == image.info.get("transparency", -1)] = 255
        return Image.fromarray(pixels)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def square(image: Image.Image, size: int) -> np.ndarray:
    """The centre square of an image, resized by antialiased bilinear filtering.

    Args:
        image: `PIL.Image.Image` of mode `"L"` or `"RGB"`.
        size: int, side of the result in pixels.

    Returns:
        uint8 array `(size, size, 3)`.
    """
    fitted = ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)
    return np.asarray(fitted.convert("RGB"))


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Within the block, Pillow does not warn of oddities, and refuses decompression bombs."""
    # Filters belong to the process: the block is around the threads that decode.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def _opened(path):
    # Opening a named pipe would wait for its writer.
    if not os.path.isfile(path):
        raise OSError("not a regular file, or a broken link")
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
        if image.mode == "F":
            raise ValueError("its pixels are floats, of which the range is not known")
        yield image


def open_image(path: str | os.PathLike, draft_size: int | None = None) -> Image.Image:
    """Decodes an image file, told by its content, to an upright `Image` of mode `"L"` or `"RGB"`.

    Of several frames the first is read; transparent parts become white; 16-bit greyscale is scaled
    to 8 bits.

    Args:
        path: string.
        draft_size: int, side in pixels that a JPEG must keep, which then decodes faster at 1/2,
            1/4 or 1/8 of its size. Defaults to `None`: all of its pixels.

    Raises:
        Exception: of many kinds, if the file cannot be decoded; `why_unreadable` puts it in words.
    """
    with _opened(path) as image:
        if draft_size is not None:
            image.draft(None, (draft_size, draft_size))
        image.load()
        try:
            orientation = image.getexif().get(_ORIENTATION_TAG)
        except Exception:
            # Damaged EXIF data leaves the image itself readable.
            orientation = None
        pixels = flatten(image)
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return pixels


def why_unreadable(error: BaseException) -> str:
    """The reason why `open_image` failed, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return NOT_AN_IMAGE
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text.strip()) or type(error).__name__


@functools.cache
def _threads():
    return concurrent.futures.ThreadPoolExecutor(_CORES)


def in_threads(function, count):
    """`[function(0), ..., function(count - 1)]`, by a thread for each core."""
    length = max(1, min(16, count // (4 * _CORES)))
    blocks = [range(i, min(i + length, count)) for i in range(0, count, length)]
    results = _threads().map(lambda block: [function(index) for index in block], blocks)
    return [result for block in results for result in block]


def check_headers(paths: Sequence[str]) -> list[str | None]:
    """For each path `None`, or the reason why it is not the start of an image; decodes none."""
    return [error and why_unreadable(error) for error in _header_errors(paths)]


def _header_errors(paths):
    def check(index):
        try:
            with _opened(paths[index]):
                return None
        except Exception as error:
            # Pillow raises any of a dozen kinds on damaged files.
            return error

    with decoding():
        return in_threads(check, len(paths))


def images_among(paths):
    """The paths of images, none of which is decoded, and lines on those that cannot be opened."""
    images, unreadable = [], []
    for path, error in zip(paths, _header_errors(paths)):
        if error is None:
            images.append(path)
        elif path.lower().endswith(SUFFIXES) or not isinstance(error, OSError):
            # Others are ignored: Pillow raises OSError where a file is of another format.
            unreadable.append(f"{printable(path)}: {why_unreadable(error)}")
    return images, unreadable


def resize_arrays(arrays: typing.Any, scale: float, size: int) -> np.ndarray:
    """Resizes the centre squares of images, as `square` does, to uint8 `(images, size, size, 3)`.

    Args:
        arrays: array `(images, height, width, channels)`; of 4 channels the fourth is dropped.
        scale: float, what takes the values to [0, 255].
        size: int, side of the result in pixels.
    """
    images = np.empty((len(arrays), size, size, 3), "uint8")

    def resize(index):
        pixels = arrays[index][..., :3]
        if pixels.dtype != np.uint8:
            # In float64, as float16 has no steps of 1 above 2048 and int8 overflows.
            pixels = np.clip(np.rint(pixels.astype("float64") * scale), 0, 255).astype("uint8")
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        images[index] = square(image, size)

    in_threads(resize, len(arrays))
    return images
