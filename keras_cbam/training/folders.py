"""Data sets of folders of pictures."""

import os

import numpy as np

from keras_cbam.training.data_set import DataError, DataSet, quoted, split, what_was_skipped
from keras_cbam.training.pictures import find_pictures, list_folder, printable, read_pictures


def from_folder(name, folder, image_size, seed, strict, test_fraction):
    root = os.path.realpath(folder)
    try:
        subfolders, stray, left_out = list_folder(folder, root)
        parts = {os.path.basename(path).lower(): path for path in subfolders}
        is_split = set(parts) in ({"train", "val"}, {"train", "test"}, {"train", "val", "test"})
        is_split = is_split and len(parts) == len(subfolders)
        is_split = is_split and any(list_folder(path, root)[0] for path in subfolders)
    except OSError as error:
        raise DataError(f"The folder {quoted(folder)} cannot be read: {error.strerror}.") from error
    if not is_split:
        skipped = []
        read = _read_classes(folder, root, image_size, strict, skipped)
        return split(name, *read, skipped, seed, test_fraction, folder)
    if len(parts) == 3:
        raise DataError(
            f"The folder {quoted(folder)} must have two parts, train and one of val and test, "
            "received all three."
        )
    skipped = left_out + _outside_classes(stray)
    (train_images, train_labels, class_names), (test_images, test_labels, test_names) = (
        _read_classes(parts[part], root, image_size, strict, skipped)
        for part in sorted(parts, key=lambda part: part != "train")
    )
    if class_names != test_names:
        odd = sorted(set(class_names) ^ set(test_names))[0]
        raise DataError(
            f"The parts of {quoted(folder)} must hold the same classes, received the class "
            f"{odd!r} in one only."
        )
    return DataSet(name, train_images, train_labels, test_images, test_labels, class_names, skipped)


def _read_classes(folder, root, image_size, strict, skipped):
    """Images, labels and class names of one folder a class; adds to the list `skipped`."""
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
    images, reasons = read_pictures(paths, image_size)
    skipped.extend(f"{printable(path)}: {why}" for path, why in zip(paths, reasons) if why)
    if strict and skipped:
        raise DataError(
            f"Not everything in {quoted(folder)} can be read, which is an error if strict"
            f"{what_was_skipped(skipped)}."
        )
    if any(reasons):
        is_readable = np.array([why is None for why in reasons])
        images, labels = images[is_readable], labels[is_readable]
        _check_classes_are_filled(folder, labels, class_names, skipped)
    return images, labels, class_names


def _outside_classes(pictures):
    return [f"{printable(path)}: a picture outside the class folders" for path in pictures]


def _check_classes_are_filled(folder, labels, class_names, skipped):
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() == 0:
        raise DataError(
            f"The class {class_names[counts.argmin()]!r} of {quoted(folder)} must have readable "
            f"JPEG, PNG, BMP or GIF pictures, received none{what_was_skipped(skipped)}."
        )
