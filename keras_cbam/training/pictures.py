"""Picture files, and arrays of pictures, as square RGB pixels."""

import concurrent.futures
import os
import pathlib
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
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


def printable(text):
    """`text` with line ends, undecodable bytes and all else that is not printable escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def list_folder(folder, root):
    """What a data folder holds, in the order of plain string sorting.

    Hidden entries are ignored.

    Args:
        folder: string, path of the folder.
        root: string, real path of the folder that no symbolic link may lead out of.

    Returns:
        Three lists: the paths of the subfolders, the paths of the pictures, and a line
        `"path: reason"` for each file without the suffix of a picture and each link that leads
        outside `root`.

    Raises:
        OSError: if the folder cannot be read.
    """
    folders, pictures, skipped = [], [], []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        is_folder = os.path.isdir(path)
        if name.startswith("."):
            continue
        if os.path.islink(path) and not pathlib.Path(os.path.realpath(path)).is_relative_to(root):
            skipped.append(f"{printable(path)}: a symbolic link that leads outside the data folder")
        elif not is_folder and not name.lower().endswith(SUFFIXES):
            skipped.append(f"{printable(path)}: not named as a JPEG, PNG, BMP or GIF picture")
        else:
            (folders if is_folder else pictures).append(path)
    return folders, pictures, skipped


def find_pictures(folder, root):
    """The pictures of a folder and of all folders in it.

    Args:
        folder: string, path of the folder.
        root: string, real path of the folder that no symbolic link may lead out of.

    Returns:
        The sorted list of the paths, and a list of lines `"path: reason"` on what was not read.
    """
    pictures, skipped, seen = [], [], set()
    # A list of what is to be read, as folders may be nested deeper than functions may.
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:
                # Links in a circle, or many to one place, would be read without end.
                skipped.append(f"{printable(current)}: the same folder as another one of its class")
                continue
            seen.add((status.st_dev, status.st_ino))
            folders, found, left_out = list_folder(current, root)
        except OSError as error:
            skipped.append(f"{printable(current)}: {error.strerror}")
            continue
        pictures.extend(found)
        skipped.extend(left_out)
        waiting.extend(reversed(folders))
    return sorted(pictures, key=lambda path: path.replace(os.sep, "/")), skipped


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


def _read_picture(path, size):
    # Opening a named pipe would wait for its writer.
    if not os.path.isfile(path):
        raise OSError("not a regular file, or a broken link")
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
        # JPEG decodes faster at 1/2, 1/4 or 1/8 of its size; twice the target keeps the filtering.
        image.draft(None, (2 * size, 2 * size))
        image.load()
        try:
            orientation = image.getexif().get(_ORIENTATION_TAG)
        except Exception:
            # Damaged EXIF data leaves the picture itself readable.
            orientation = None
        pixels = flatten(image)
    if orientation in _UPRIGHT:
        pixels = pixels.transpose(_UPRIGHT[orientation])
    return square(pixels, size)


def _reason(error):
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, BMP or GIF picture"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(text.strip()) or type(error).__name__


def read_pictures(paths, size):
    """Picture files as pixels, decoded by as many threads as there are cores.

    Only JPEG, PNG, BMP and GIF are decoded, whatever the suffix says. EXIF orientation is
    applied; of an animation the first frame is read; transparent parts become white; 16-bit
    greyscale is scaled to 8 bits. The centre square is resized by antialiased bilinear filtering.

    Args:
        paths: list of strings.
        size: int, side of the result in pixels.

    Returns:
        uint8 array `(len(paths), size, size, 3)`, and a list with, for each path, `None` or the
        reason why it could not be decoded (its pixels are then undefined).
    """
    images = np.empty((len(paths), size, size, 3), "uint8")

    def read(index):
        try:
            images[index] = _read_picture(paths[index], size)
        except Exception as error:
            # Pillow raises any of a dozen kinds on damaged files.
            return _reason(error)
        return None

    # Set once around the threads, as warning filters belong to the process.
    with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return images, list(pool.map(read, range(len(paths))))


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

    def resize(block):
        for index in block:
            pixels = arrays[index][..., :3]
            if pixels.dtype != np.uint8:
                # In float64, as float16 has no steps of 1 above 2048 and int8 overflows.
                pixels = np.clip(np.rint(pixels.astype("float64") * scale), 0, 255).astype("uint8")
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            images[index] = square(image, size)

    blocks = [range(i, min(i + 256, len(arrays))) for i in range(0, len(arrays), 256)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(resize, blocks))
    return images
