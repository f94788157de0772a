"""Data sets of arrays and `.npz` files."""

import numpy as np

from keras_cbam.data.image_files import resize_arrays
from keras_cbam.data.image_sources import ArrayImages
from keras_cbam.data.labelled_images import WHOLE, LabelledImages, labels_by_name
from keras_cbam.errors import DataError, first_line, printable, quoted

_PARTS = {
    "train": ("x", "y"),
    WHOLE: ("x", "y"),
    "validation": ("xv", "yv"),
    "test": ("xt", "yt"),
}
_KEYS = (
    ("x", "y", "xv", "yv", "xt", "yt"),
    ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
)


def read_npz(path):
    """The arrays of an `.npz` file that are of use here, under their short keys."""
    from keras_cbam.files.model_files import check_arrays  # Keras comes with it.

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
    pairs = [(x in arrays, y in arrays) for x, y in _PARTS.values()]
    if not all(pairs[0]) or any(x != y for x, y in pairs):
        raise DataError(
            f"The file {quoted(path)} must hold the arrays x and y, and optionally xv and yv, and "
            f"xt and yt, received {', '.join(map(printable, names)) or 'none'}."
        )
    return arrays


class ArrayParts:
    """The parts of arrays that are from `path`, with the interface of `FolderParts`."""

    def __init__(self, path, arrays, image_size):
        self._path, self._arrays, self._image_size = path, arrays, image_size
        others = tuple(kind for kind in ("validation", "test") if _PARTS[kind][0] in arrays)
        self.kinds = ("train", *others) if others else (WHOLE,)
        self.skipped = []

    def read(self, kind, class_names=None):
        """Resizes the images of a part; returns `LabelledImages` and the class names."""
        key, labels_key = _PARTS[kind]
        x, scale = self._checked_images(key)
        labels = self._checked_labels(labels_key, len(x))
        names = self._checked_names(labels, labels_key)
        if class_names is None:
            class_names = self._all_names(names, labels)
        found, places = np.unique(labels, return_inverse=True)
        own = [str(label) if names is None else names[label] for label in found]
        labels = labels_by_name(own, class_names, self._path)[places]
        try:
            images = ArrayImages(resize_arrays(x, scale, self._image_size))
        except MemoryError as error:
            what = f"The data {quoted(self._path)} do not fit in memory"
            raise DataError(f"{what}: {error}.") from error
        return LabelledImages(images, labels), class_names

    def _require(self, is_met, what, requirement, received):
        if not is_met:
            raise DataError(
                f"The {what} of {quoted(self._path)} must {requirement}, received {received}."
            )

    def _checked_images(self, key):
        """The array with a channel axis, and the factor that takes its values to [0, 255]."""
        what = f"images {key}"
        # Those to train on decide for all.
        first = None if key == "x" else self._checked_images("x")
        x = self._arrays[key]
        x = x[..., None] if x.ndim == 3 else x
        has_shape = x.ndim == 4 and 0 not in x.shape and x.shape[-1] in (1, 3, 4)
        shape = "(images, height, width) or (images, height, width, 1, 3 or 4)"
        self._require(has_shape, what, f"have the shape {shape}", x.shape)
        if first:
            self._require(x.dtype == first[0].dtype, what, f"be {first[0].dtype} as x", x.dtype)
        self._require(x.dtype.kind in "iuf", what, "be integers or floats", x.dtype)
        # Not a number passes through both, so this needs no second array of that size.
        lowest, highest = x.min(), x.max()
        if first:
            scale = first[1]
        elif x.dtype.kind == "f":
            # Rounding may take a float16 image a little above 1.
            scale = 255.0 if highest <= 1.001 else 1.0
        else:
            is_16_bit = x.dtype.kind == "u" and x.dtype.itemsize == 2
            scale = 1 / 257 if is_16_bit and highest > 255 else 1.0
        limit = {255.0: 1, 1.0: 255}.get(scale, 65535)
        is_inside = lowest >= 0 and highest <= limit * 1.001
        self._require(is_inside, what, f"have values in [0, {limit}]", f"{lowest} to {highest}")
        return x, scale

    def _checked_labels(self, key, images):
        y, what = self._arrays[key], f"labels {key}"
        self._require(y.dtype.kind in "iu", what, "be integers", y.dtype)
        shape = f"have the shape ({images},), one for each image"
        self._require(y.shape in ((images,), (images, 1)), what, shape, y.shape)
        self._require(y.min() >= 0, what, "not be negative", y.min())
        return y.reshape(-1)

    def _checked_names(self, labels, key):
        """The class names in the file, `None` if it has none."""
        if "class_names" not in self._arrays:
            return None
        names = np.asarray(self._arrays["class_names"])
        is_list = names.ndim == 1 and names.dtype.kind in "US"
        received = f"{names.dtype} of shape {names.shape}"
        self._require(is_list, "class_names", "be a list of strings", received)
        names = [
            printable(name.decode(errors="replace") if isinstance(name, bytes) else name)
            for name in names.tolist()
        ]
        self._require(len(set(names)) == len(names), "class_names", "differ", names)
        limits = f"be in 0..{len(names) - 1} for {len(names)} class_names"
        self._require(labels.max() < len(names), f"labels {key}", limits, labels.max())
        return names

    def _all_names(self, names, labels):
        """The names of all classes, each of which must have an image to train on."""
        found = np.unique(labels)
        if names is None:
            received = f"{len(found)} different ones up to {found[-1]}"
            # Compared before they are named: a label of 10 ** 18 asks for no list of names.
            is_whole = found[-1] == len(found) - 1
            self._require(is_whole, "labels", "be all of 0..K-1 for K classes", received)
            names = [str(label) for label in found]
        missing = [names[label] for label in np.setdiff1d(np.arange(len(names)), found)]
        requirement = "each have an image to train on"
        self._require(not missing, "class_names", requirement, f"none of {missing}")
        self._require(len(names) > 1, "labels", "name at least 2 classes", "one")
        return names
