"""Labelled pictures for training, from wherever they are."""

import importlib.resources
import os
import pathlib

import keras
import numpy as np

from keras_cbam.data.arrays import from_arrays, read_npz
from keras_cbam.data.class_folders import from_folder
from keras_cbam.errors import DataError, first_line, printable, quoted

_CLASS_NAMES = {
    "mnist": "0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    "fashion_mnist": (
        "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
    ),
    "cifar10": "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck",
    "cifar100": (
        "apple, aquarium_fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, "
        "bridge, bus, butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, "
        "clock, cloud, cockroach, couch, crab, crocodile, cup, dinosaur, dolphin, elephant, "
        "flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn_mower, "
        "leopard, lion, lizard, lobster, man, maple_tree, motorcycle, mountain, mouse, mushroom, "
        "oak_tree, orange, orchid, otter, palm_tree, pear, pickup_truck, pine_tree, plain, plate, "
        "poppy, porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, "
        "shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower, "
        "sweet_pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip, "
        "turtle, wardrobe, whale, willow_tree, wolf, woman, worm"
    ),
}
_CLASS_NAMES = {name: names.split(", ") for name, names in _CLASS_NAMES.items()}


def load_data(data, image_size, seed=0, strict=False, test_fraction=0.2, cache=None):
    """Loads labelled pictures, all cut to their centre square and resized to one size.

    Pictures are resized by antialiased bilinear filtering; greyscale is repeated to RGB. The
    same arguments and files give the same order and split on every machine.

    Args:
        data: one of

            - `None`: the embedded part of Fashion-MNIST, 6,000 and 1,000 pictures;
            - `"mnist"`, `"fashion_mnist"`, `"cifar10"` or `"cifar100"`: the set of that name in
              `keras.datasets`, which downloads it (a folder of that name is `"./mnist"`);
            - a folder with one subfolder a class of JPEG, PNG, BMP and GIF pictures, nested to any
              depth; or with exactly two subfolders, `train` and one of `val` and `test`, that each
              hold the same classes. Classes are in the order of their sorted names. Transparent
              parts become white;
            - an `.npz` file with `x`, `y` and optionally `xt`, `yt` (or `x_train`, `y_train`,
              `x_test`, `y_test`) and `class_names`. Pictures are `(pictures, height, width)` or
              `(pictures, height, width, channels)` with 1, 3 or 4 channels, of which the fourth
              is dropped. Integers are in [0, 255], or in [0, 65535] if they are uint16 and exceed
              255; floats are in [0, 1], or in [0, 255] if they exceed 1; `x` decides for `xt`.
              Labels are integers from 0, `(pictures,)` or `(pictures, 1)`.
        image_size: int, side of the square pictures in pixels, at least 32.
        seed: int, of the split. Defaults to `0`.
        strict: bool, whether a picture that cannot be read is an error; else it is skipped.
            Defaults to `False`.
        test_fraction: float in (0, 1), part of each class, at least one picture and not all, that
            is split off for testing where the data has no test part. Defaults to `0.2`.
        cache: path of a folder in which the decoded pictures of a picture folder are kept, for this
            training and others; they are then not held in memory, see `cached_pictures`. Defaults
            to `None`: they are held in memory.

    Returns:
        A `DataSet`.

    Raises:
        ValueError: if `image_size`, `seed` or `test_fraction` is outside its range.
        DataError: if there is no such data, or it cannot be used.

    Example:

    >>> data_set = load_data(None, 64)
    >>> data_set.train_images.shape
    (6000, 64, 64, 3)
    """
    for name, value, least in (("image_size", image_size, 32), ("seed", seed, 0)):
        is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not is_integer or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
            )
    if not 0 < test_fraction < 1:
        raise ValueError(
            f"`test_fraction` must be in (0, 1). Received: test_fraction={test_fraction!r}"
        )
    if not isinstance(data, (str, os.PathLike, type(None))):
        raise DataError(f"The data must be None, a name or a path, received {data!r}.")
    try:
        return _load(data, image_size, seed, strict, test_fraction, cache)
    except MemoryError as error:
        raise DataError(f"The data {quoted(data)} do not fit in memory: {error}.") from error


def _load(data, image_size, seed, strict, test_fraction, cache):
    if cache is not None and (data is None or data in _CLASS_NAMES):
        raise DataError(f"Only a folder of pictures has a cache, received the data {data!r}.")
    if data is None:
        folder = importlib.resources.files("keras_cbam.data") / "fashion_mnist"
        arrays = read_npz(folder / "fashion_mnist_7k.npz")
        arrays["class_names"] = _CLASS_NAMES["fashion_mnist"]
        return from_arrays("fashion_mnist_7k", arrays, image_size, seed, test_fraction)
    if data in _CLASS_NAMES:
        arrays = _download(data)
        return from_arrays(data, arrays, image_size, seed, test_fraction)
    data = os.fspath(data)
    name = printable(os.path.basename(os.path.abspath(data)))
    if os.path.isdir(data):
        return from_folder(name, data, image_size, seed, strict, test_fraction, cache)
    if cache is not None:
        raise DataError(f"Only a folder of pictures has a cache, received {quoted(data)}.")
    if os.path.isfile(data) and data.lower().endswith(".npz"):
        arrays = read_npz(pathlib.Path(data))
        return from_arrays(name, arrays, image_size, seed, test_fraction, path=data)
    if os.path.exists(data):
        raise DataError(f"Expected a folder of pictures or an .npz file, received {quoted(data)}.")
    known = ", ".join(map(repr, _CLASS_NAMES))
    raise DataError(
        f"There is no such file or folder as {quoted(data)}, and it is none of the known data "
        f"sets {known}."
    )


def _download(name):
    try:
        (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        # Keras raises a bare Exception where there is no network.
        raise DataError(
            f"The data set {name!r} cannot be downloaded: {first_line(error)}."
        ) from error
    if x.ndim == 4 and keras.config.image_data_format() == "channels_first":
        x, x_test = np.moveaxis(x, 1, -1), np.moveaxis(x_test, 1, -1)
    return {"x": x, "y": y, "xt": x_test, "yt": y_test, "class_names": _CLASS_NAMES[name]}
