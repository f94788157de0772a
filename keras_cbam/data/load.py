"""Labelled images for training and evaluation, from wherever they are."""

import importlib.resources
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from keras_cbam.data.arrays import ArrayParts, read_npz
from keras_cbam.data.class_folders import FolderParts
from keras_cbam.data.class_names import CLASS_NAMES
from keras_cbam.data.labelled_images import KINDS, WHOLE, ImageData, LabelledImages, split_off
from keras_cbam.errors import (
    DataError,
    first_line,
    number,
    positive_integer,
    printable,
    quoted,
    validate_seed,
)


def load_data(
    data: str | os.PathLike | None,
    image_size: int,
    seed: int = 0,
    strict: bool = False,
    test_fraction: float = 0.2,
    resize: str = "square",
) -> ImageData:
    """Loads labelled images to train a classifier on.

    Images become RGB of one size. The same arguments and files give the same order and split on
    every machine. Image files are decoded when they are needed.

    Args:
        data: one of

            - `None`: the embedded part of Fashion-MNIST, 6,000 and 1,000 images;
            - `"mnist"`, `"fashion_mnist"`, `"cifar10"` or `"cifar100"`: that set of
              `keras.datasets`, which downloads it (a folder of that name is `"./mnist"`);
            - a folder with a subfolder for each class, of JPEG, PNG, GIF, BMP, WebP and TIFF
              images to any depth; or with two or three parts that each hold such subfolders:
              `train` or `training`; `val`, `valid`, `validation` or `dev`; `test` or `testing`; in
              any case, or as one of several words, as in `seg_train`;
            - an `.npz` file with `x`, `y` and optionally `xv`, `yv` and `xt`, `yt` (or `x_train`,
              `y_train`, `x_val`, ...) and `class_names`. Images are `(images, height, width)` or
              `(images, height, width, channels)` with 1, 3 or 4 channels, of which the fourth is
              dropped. Integers are in [0, 255], or in [0, 65535] if they are uint16 and exceed
              255; floats are in [0, 1], or in [0, 255] if they exceed 1; `x` decides for all.
              Labels are integers from 0, `(images,)` or `(images, 1)`.
        image_size: int, side of the square images in pixels.
        seed: int, of the split. Defaults to `0`.
        strict: bool, whether an image that cannot be read, or a link that leads outside, is an
            error; else it is skipped. Defaults to `False`.
        test_fraction: float in (0, 1), part of each class that is split off for testing where the
            data have one part. Defaults to `0.2`.
        resize: of image files, see `FileImages`; of arrays always the default, `"square"`.

    Returns:
        `ImageData`. With two parts, the second is `validation` and `test`.

    Raises:
        ValueError: if `image_size`, `seed` or `test_fraction` is outside its range.
        DataError: if there is no such data, or it cannot be used.

    Example:

    >>> data = load_data(None, 64)
    >>> data.train.images.shape
    (6000, 64, 64, 3)
    """
    validate_seed("seed", seed)
    number(below=1, open_below=True)("test_fraction", test_fraction)
    name, parts = _open(data, image_size, resize, strict)
    train, class_names = parts.read(parts.kinds[0])
    if parts.kinds == (WHOLE,):
        train, test = split_off(train, class_names, seed, test_fraction, data)
        validation = test
    else:
        others = [parts.read(kind, class_names)[0] for kind in parts.kinds[1:]]
        validation, test = others[0], others[-1]
    return ImageData(name, train, validation, test, class_names, parts.skipped)


def load_part(
    data: str | os.PathLike | None,
    image_size: int,
    class_names: Sequence[str] | None = None,
    split: str | None = None,
    resize: str = "square",
    strict: bool = False,
) -> tuple[LabelledImages, list[str], str, list[str]]:
    """Loads one part of labelled images, to evaluate a classifier on.

    Args:
        data, image_size, resize, strict: see `load_data`.
        class_names: list of strings, the classes of the classifier, which number the labels; the
            data may have fewer. Defaults to `None`: those of the part.
        split: `"train"`, `"validation"`, `"val"` or `"test"`. Of two parts the second is both of
            the latter. Defaults to `None`: the test part, or all of data that have one part.

    Returns:
        Tuple of `LabelledImages`, the class names, the name of the data, and a list of lines
        `"path: reason"` on what was left out.

    Raises:
        ValueError: if an argument is outside its range.
        DataError: if there is no such data or part, or its classes are not all in `class_names`.

    Example:

    >>> part, class_names, name, skipped = load_part("photos", 224, ["cat", "dog"])
    """
    kind = {None: "test", "val": "validation"}.get(split, split)
    if kind not in KINDS:
        raise ValueError(
            f"`split` must be None, 'train', 'validation', 'val' or 'test'. Received: {split=}"
        )
    name, parts = _open(data, image_size, resize, strict)
    if parts.kinds == (WHOLE,) and split is not None:
        raise DataError(f"The data {quoted(data)} have no parts, received the split {split!r}.")
    part, class_names = parts.read(kind if kind in parts.kinds else parts.kinds[-1], class_names)
    return part, list(class_names), str(name), parts.skipped


def _open(data, image_size, resize, strict):
    """The name of the data, and their `ArrayParts` or `FolderParts`."""
    positive_integer("image_size", image_size)
    if not isinstance(data, (str, os.PathLike, type(None))):
        raise DataError(f"The data must be None, a name or a path, received {data!r}.")
    if data is None:
        folder = importlib.resources.files("keras_cbam.data") / "fashion_mnist"
        arrays = read_npz(folder / "fashion_mnist_7k.npz")
        arrays["class_names"] = CLASS_NAMES["fashion_mnist"]
        return "fashion_mnist_7k", ArrayParts("fashion_mnist_7k", arrays, image_size)
    if isinstance(data, str) and data in CLASS_NAMES:
        return data, ArrayParts(data, _download(data), image_size)
    data = os.fspath(data)
    name = printable(os.path.basename(os.path.abspath(data)))
    if os.path.isdir(data):
        return name, FolderParts(data, image_size, resize, strict)
    if os.path.isfile(data) and data.lower().endswith(".npz"):
        return name, ArrayParts(data, read_npz(pathlib.Path(data)), image_size)
    if os.path.exists(data):
        raise DataError(f"Expected a folder of images or an .npz file, received {quoted(data)}.")
    raise DataError(
        f"There is no such file or folder as {quoted(data)}, and the known data sets are "
        f"{', '.join(map(repr, CLASS_NAMES))}."
    )


def _download(name):
    import keras

    try:
        (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        # Keras raises a bare Exception where there is no network.
        reason = first_line(error)
        raise DataError(f"The data set {name!r} cannot be downloaded: {reason}.") from error
    if x.ndim == 4 and keras.config.image_data_format() == "channels_first":
        x, x_test = np.moveaxis(x, 1, -1), np.moveaxis(x_test, 1, -1)
    return {"x": x, "y": y, "xt": x_test, "yt": y_test, "class_names": CLASS_NAMES[name]}
