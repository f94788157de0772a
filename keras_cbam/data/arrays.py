"""Data sets of arrays and `.npz` files."""

import numpy as np

from keras_cbam.data.image_files import resize_arrays
from keras_cbam.data.labelled_images import DataSet, split
from keras_cbam.errors import DataError, first_line, printable, quoted
from keras_cbam.files.model_files import check_arrays

_KEYS = (("x", "y", "xt", "yt"), ("x_train", "y_train", "x_test", "y_test"))


def read_npz(path):
    """The arrays of an `.npz` file that are of use here, under their short keys."""
    try:
        # NumPy leaves a damaged file open that it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            check_arrays(archive)
            names = list(archive.files)
            keys = next((keys for keys in _KEYS if keys[0] in names), _KEYS[0])
            wanted = dict(zip(_KEYS[0], keys), class_names="class_names")
            arrays = {short: archive[key] for short, key in wanted.items() if key in names}
    except Exception as error:
        # A damaged archive fails in zipfile, in zlib or in NumPy, each with errors of its own.
        raise DataError(
            f"The file {quoted(path)} cannot be read as an .npz without pickled objects: "
            f"{first_line(error)}."
        ) from error
    has_pairs = "x" in arrays and "y" in arrays and ("xt" in arrays) == ("yt" in arrays)
    if not has_pairs:
        raise DataError(
            f"The file {quoted(path)} must hold the arrays x and y, and optionally xt and yt, "
            f"received {', '.join(map(printable, names)) or 'none'}."
        )
    return arrays


def from_arrays(name, arrays, image_size, seed, test_fraction, path=None):
    path = path or name
    x, y = arrays["x"], arrays["y"]
    x, scale = _checked_pictures(x, path, "x")
    y = _checked_labels(y, path, "y", len(x))
    class_names = _checked_names(arrays.get("class_names"), y, path)
    if "xt" not in arrays:
        images = resize_arrays(x, scale, image_size)
        return split(name, images, y, class_names, [], seed, test_fraction, path)
    xt, _ = _checked_pictures(arrays["xt"], path, "xt", like=(x.dtype, scale))
    yt = _checked_labels(arrays["yt"], path, "yt", len(xt))
    if yt.max() >= len(class_names):
        raise DataError(
            f"The labels yt of {quoted(path)} must be in 0..{len(class_names) - 1} as those of "
            f"the training part, received {yt.max()}."
        )
    return DataSet(
        name,
        resize_arrays(x, scale, image_size),
        y.astype("int32"),
        resize_arrays(xt, scale, image_size),
        yt.astype("int32"),
        class_names,
        [],
    )


def _checked_pictures(x, path, key, like=None):
    """The array with a channel axis, and the factor that takes its values to [0, 255]."""
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or 0 in x.shape or x.shape[-1] not in (1, 3, 4):
        raise DataError(
            f"The pictures {key} of {quoted(path)} must have the shape (pictures, height, width) "
            f"or (pictures, height, width, 1, 3 or 4), received {x.shape}."
        )
    if x.dtype.kind not in "iuf" or (like and x.dtype != like[0]):
        expected = f"{like[0]} as x" if like else "integers or floats"
        raise DataError(
            f"The pictures {key} of {quoted(path)} must be {expected}, received {x.dtype}."
        )
    # Not a number passes through both, so this needs no second array of that size.
    lowest, highest = x.min(), x.max()
    if like:
        scale = like[1]
    elif x.dtype.kind == "f":
        # Rounding may take a float16 picture a little above 1.
        scale = 255.0 if highest <= 1.001 else 1.0
    else:
        is_16_bit = x.dtype.kind == "u" and x.dtype.itemsize == 2
        scale = 1 / 257 if is_16_bit and highest > 255 else 1.0
    limit = {255.0: 1, 1.0: 255}.get(scale, 65535)
    # The negated comparison is also true of what is not a number.
    if not (lowest >= 0 and highest <= limit * 1.001):
        raise DataError(
            f"The pictures {key} of {quoted(path)} must have values in [0, {limit}], received "
            f"{lowest} to {highest}."
        )
    return x, scale


def _checked_labels(y, path, key, pictures):
    if y.dtype.kind not in "iu":
        raise DataError(f"The labels {key} of {quoted(path)} must be integers, received {y.dtype}.")
    if y.shape not in ((pictures,), (pictures, 1)):
        raise DataError(
            f"The labels {key} of {quoted(path)} must have the shape ({pictures},), one for each "
            f"picture, received {y.shape}."
        )
    if y.min() < 0:
        raise DataError(
            f"The labels {key} of {quoted(path)} must not be negative, received {y.min()}."
        )
    return y.reshape(-1)


def _checked_names(class_names, y, path):
    if class_names is None:
        found = np.unique(y)
        # Compared with how many there are first: a label of 10 ** 18 asks for no list of names.
        if found[-1] != len(found) - 1:
            raise DataError(
                f"The labels y of {quoted(path)} must be all of 0..K-1 for K classes, received "
                f"{len(found)} different ones up to {found[-1]}."
            )
        class_names = [str(label) for label in range(len(found))]
    else:
        names = np.asarray(class_names)
        if names.ndim != 1 or names.dtype.kind not in "US":
            raise DataError(
                f"The class_names of {quoted(path)} must be a list of strings, received "
                f"{names.dtype} of shape {names.shape}."
            )
        class_names = [
            printable(name.decode(errors="replace") if isinstance(name, bytes) else name)
            for name in names.tolist()
        ]
        if len(set(class_names)) < len(class_names):
            raise DataError(
                f"The class_names of {quoted(path)} must differ, received {class_names}."
            )
        if y.max() >= len(class_names):
            raise DataError(
                f"The labels y of {quoted(path)} must be in 0..{len(class_names) - 1} for "
                f"{len(class_names)} class_names, received {y.max()}."
            )
        counts = np.bincount(y.astype("int64"), minlength=len(class_names))
        if counts.min() == 0:
            raise DataError(
                f"The class {class_names[counts.argmin()]!r} of {quoted(path)} has no picture to "
                "train on, expected at least one."
            )
    if len(class_names) < 2:
        raise DataError(f"The labels y of {quoted(path)} name one class, expected at least 2.")
    return class_names
