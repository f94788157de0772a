"""Folders of pictures: which there are, of which classes, and data sets of them."""

import dataclasses
import os
import pathlib

import numpy as np

from keras_cbam.data.cache import cached_pictures
from keras_cbam.data.image_files import read_pictures
from keras_cbam.data.labelled_images import DataSet, select, split, what_was_skipped
from keras_cbam.errors import DataError, printable, quoted

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


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


@dataclasses.dataclass(frozen=True, eq=False)
class PictureFiles:
    """Labelled picture files, none of which was opened yet.

    Attributes:
        folder: string, path of the folder with one subfolder a class.
        paths: list of strings, class by class.
        labels: int32 array `(pictures,)`, indices into `class_names`.
        class_names: list of strings, the sorted names of the subfolders.
    """

    folder: str
    paths: list
    labels: np.ndarray
    class_names: list


def find_parts(folder):
    """The folder's parts, if it has subfolders train and val or test, or all three, and no other.

    Args:
        folder: string, path.

    Returns:
        `{"train": path, "val": path, ...}`, empty if the folder has no such parts, and a list of
        lines `"path: reason"` on what lies beside the parts.

    Raises:
        DataError: if the folder cannot be read.
    """
    root = os.path.realpath(folder)
    try:
        subfolders, stray, left_out = list_folder(folder, root)
        parts = {os.path.basename(path).lower(): path for path in subfolders}
        is_split = set(parts) in ({"train", "val"}, {"train", "test"}, {"train", "val", "test"})
        is_split = is_split and len(parts) == len(subfolders)
        is_split = is_split and any(list_folder(path, root)[0] for path in subfolders)
    except OSError as error:
        raise DataError(f"The folder {quoted(folder)} cannot be read: {error.strerror}.") from error
    return (parts, left_out + _outside_classes(stray)) if is_split else ({}, [])


def find_classes(folder, root, skipped):
    """`PictureFiles` of a folder with one subfolder a class; adds to the list `skipped`.

    Args:
        folder: string, path.
        root: string, path of the folder that no symbolic link may lead out of.
        skipped: list, to which a line `"path: reason"` is added for each file left out.

    Raises:
        DataError: if there are fewer than two classes, or one has no picture.
    """
    root = os.path.realpath(root)
    folders, stray, left_out = list_folder(folder, root)
    skipped.extend(left_out + _outside_classes(stray))
    if len(folders) < 2:
        raise DataError(
            f"The folder {quoted(folder)} must have a subfolder of pictures for each of at least "
            f"2 classes, received {len(folders) or 'no'} subfolder{'s' * (not folders)}"
            f"{what_was_skipped(skipped)}."
        )
    class_names = [printable(os.path.basename(path)) for path in folders]
    paths, labels = [], []
    for label, class_folder in enumerate(folders):
        found, left_out = find_pictures(class_folder, root)
        skipped.extend(left_out)
        paths.extend(found)
        labels.extend([label] * len(found))
    labels = np.array(labels, "int32")
    _check_classes_are_filled(folder, labels, class_names, skipped)
    return PictureFiles(folder, paths, labels, class_names)


def check_same_classes(folder, train_names, test_names):
    if train_names != test_names:
        odd = sorted(set(train_names) ^ set(test_names))[0]
        raise DataError(
            f"The parts of {quoted(folder)} must hold the same classes, received the class "
            f"{odd!r} in one only."
        )


def check_strict(folder, strict, skipped):
    if strict and skipped:
        raise DataError(
            f"Not everything in {quoted(folder)} can be read, which is an error if strict"
            f"{what_was_skipped(skipped)}."
        )


def from_folder(name, folder, image_size, seed, strict, test_fraction, cache):
    """The `DataSet` of a folder, see `load_data`."""
    parts, skipped = find_parts(folder)
    if not parts:
        read = _read_classes(folder, folder, image_size, strict, skipped, cache)
        return split(name, *read, skipped, seed, test_fraction, folder)
    if len(parts) == 3:
        raise DataError(
            f"The folder {quoted(folder)} must have two parts, train and one of val and test, "
            "received all three."
        )
    (train_images, train_labels, class_names), (test_images, test_labels, test_names) = (
        _read_classes(parts[part], folder, image_size, strict, skipped, cache)
        for part in sorted(parts, key=lambda part: part != "train")
    )
    check_same_classes(folder, class_names, test_names)
    return DataSet(name, train_images, train_labels, test_images, test_labels, class_names, skipped)


def _read_classes(folder, root, image_size, strict, skipped, cache):
    """Images, labels and class names of one folder a class; adds to the list `skipped`."""
    files = find_classes(folder, root, skipped)
    if cache is None:
        images, reasons = read_pictures(files.paths, image_size)
    else:
        images, reasons = cached_pictures(files.paths, image_size, cache)
    skipped.extend(f"{printable(path)}: {why}" for path, why in zip(files.paths, reasons) if why)
    check_strict(folder, strict, skipped)
    labels = files.labels
    if any(reasons):
        is_readable = np.array([why is None for why in reasons])
        images, labels = select(images, is_readable), labels[is_readable]
        _check_classes_are_filled(folder, labels, files.class_names, skipped)
    return images, labels, files.class_names


def _outside_classes(pictures):
    return [f"{printable(path)}: a picture outside the class folders" for path in pictures]


def _check_classes_are_filled(folder, labels, class_names, skipped):
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() == 0:
        raise DataError(
            f"The class {class_names[counts.argmin()]!r} of {quoted(folder)} must have readable "
            f"JPEG, PNG, BMP or GIF pictures, received none{what_was_skipped(skipped)}."
        )
