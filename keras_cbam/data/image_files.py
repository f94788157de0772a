"""Picture files, and arrays of pictures, as square RGB pixels."""

import concurrent.futures
import contextlib
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_cbam.errors import printable

FORMATS = ("JPEG", "PNG", "BMP", "GIF")
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
    return image.convert("L" if image.mode in ("1", "L", "F") else "RGB")


def square(image, size):
    """The centre square of an `"L"` or `"RGB"` image, resized by antialiased bilinear filtering.

    Returns:
        uint8 array `(size, size, 3)`, or `(size, size, 1)` of an `"L"` image.
    """
    fitted = ImageOps.fit(image, (size, size), method=Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(size, size, -1)


@contextlib.contextmanager
def decoding():
    """Within the block, Pillow does not warn of oddities, and refuses decompression bombs.

    Warning filters belong to the process: the block is around the threads that decode.
    """
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
        yield image


def open_picture(path, draft_size=None):
    """A picture file as an upright Pillow image of mode `"L"` or `"RGB"`.

    Only JPEG, PNG, BMP and GIF are decoded, whatever the suffix says. EXIF orientation is
    applied; of an animation the first frame is read; transparent parts become white; 16-bit
    greyscale is scaled to 8 bits.

    Args:
        path: string.
        draft_size: int, side in pixels that a JPEG must keep, which then decodes faster at 1/2,
            1/4 or 1/8 of its size. Defaults to `None`: all of its pixels.

    Returns:
        `PIL.Image.Image`.

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
            # Damaged EXIF data leaves the picture itself readable.
            orientation = None
        pixels = flatten(image)
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return pixels


def why_unreadable(error):
    """What `open_picture` failed of, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, BMP or GIF picture"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text.strip()) or type(error).__name__


def _in_threads(function, count):
    """`[function(0), ..., function(count - 1)]`, by as many threads as there are cores."""
    blocks = [range(i, min(i + 16, count)) for i in range(0, count, 16)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda block: [function(index) for index in block], blocks)
        return [result for block in results for result in block]


def _failures(function, count):
    """For each index `None`, or the reason why `function` failed to read that picture."""

    def attempt(index):
        try:
            function(index)
        except Exception as error:
            # Pillow raises any of a dozen kinds on damaged files.
            return why_unreadable(error)
        return None

    with decoding():
        return _in_threads(attempt, count)


def check_headers(paths):
    """For each path `None`, or the reason why it is not the start of a picture; decodes none."""

    def check(index):
        with _opened(paths[index]):
            pass

    return _failures(check, len(paths))


def read_pictures(paths, size, images=None):
    """Picture files as pixels, decoded by as many threads as there are cores.

    The centre square of what `open_picture` gives, resized by antialiased bilinear filtering.

    Args:
        paths: list of strings.
        size: int, side of the result in pixels.
        images: uint8 array `(len(paths), size, size, 3)` to write to. Defaults to `None`: a new
            one.

    Returns:
        The array, and a list with, for each path, `None` or the
        reason why it could not be decoded (its pixels are then undefined).
    """
    if images is None:
        images = np.empty((len(paths), size, size, 3), "uint8")

    def read(index):
        # Twice the target keeps the filtering.
        images[index] = square(open_picture(paths[index], draft_size=2 * size), size)

    return images, _failures(read, len(paths))


def resize_arrays(arrays, scale, size):
    """Pictures in an array, as `read_pictures` gives those in files.

    Args:
        arrays: array `(pictures, height, width, channels)`; 1, 3 or 4 channels, of which the
            fourth is dropped.
        scale: float, what takes the values to [0, 255].
        size: int, side of the result in pixels.

    Returns:
        uint8 array `(pictures, size, size, 3)`.
    """
    images = np.empty((len(arrays), size, size, 3), "uint8")

    def resize(index):
        pixels = arrays[index][..., :3]
        if pixels.dtype != np.uint8:
            # In float64, as float16 has no steps of 1 above 2048 and int8 overflows.
            pixels = np.clip(np.rint(pixels.astype("float64") * scale), 0, 255).astype("uint8")
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        images[index] = square(image, size)

    _in_threads(resize, len(arrays))
    return images
