"""A data set of labelled pictures in two parts."""

import dataclasses

import numpy as np

from keras_cbam.errors import DataError, quoted


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled pictures in a training and a test part.

    Attributes:
        name: string, what the set is called.
        train_images: uint8 array `(pictures, image_size, image_size, 3)`, or `Rows` of such a one.
        train_labels: int32 array `(pictures,)`, indices into `class_names`.
        test_images: as `train_images`.
        test_labels: as `train_labels`.
        class_names: list of strings.
        skipped: list of strings, a line `"path: reason"` for each file that could not be read.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list
    skipped: list


class Rows:
    """Some rows of an array on the disk, read when they are asked for.

    Args:
        array: `numpy.memmap`.
        index: int array `(rows,)`, which rows of it.
    """

    def __init__(self, array, index):
        self.array = array
        self.index = index
        self.shape = (len(index), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self):
        return len(self.index)

    def __getitem__(self, rows):
        return np.asarray(self.array[self.index[rows]])


def select(images, mask):
    """The rows of which the mask is true: a copy, or `Rows` of what is on the disk."""
    if isinstance(images, Rows):
        return Rows(images.array, images.index[mask])
    return images[mask]


def what_was_skipped(skipped):
    return f" ({len(skipped)} skipped, the first is {skipped[0]})" if skipped else ""


def split(name, images, labels, class_names, skipped, seed, test_fraction, path):
    """A `DataSet` with a part of each class, drawn by the seed, for testing."""
    counts = np.bincount(labels.astype("int64"), minlength=len(class_names))
    if counts.min() < 2:
        raise DataError(
            f"The class {class_names[counts.argmin()]!r} of {quoted(path)} must have at least 2 "
            f"pictures, one to train on and one to test on, received 1{what_was_skipped(skipped)}."
        )
    generator = np.random.default_rng(seed)
    is_test = np.zeros(len(labels), bool)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for members in by_class:
        size = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
        is_test[generator.permutation(members)[:size]] = True
    labels = labels.astype("int32")
    return DataSet(
        name,
        select(images, ~is_test),
        labels[~is_test],
        select(images, is_test),
        labels[is_test],
        class_names,
        skipped,
    )
