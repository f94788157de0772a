"""Folders in ImageNet's layout: `train` and `val`, each with one subfolder a class."""

from keras_cbam.data.class_folders import (
    check_same_classes,
    check_strict,
    find_classes,
    find_parts,
)
from keras_cbam.data.image_files import check_headers
from keras_cbam.errors import DataError, printable, quoted


def find_training_files(folder, strict=False):
    """The training and the test pictures of a folder in ImageNet's layout, by their names.

    Every file is opened, none is decoded: one that does not start as a picture is an error.

    Args:
        folder: string, path of a folder with `train` and `val` (or else `test`).
        strict: bool, whether a file that is not named as a picture, or a link that leads outside,
            is an error; else it is left out. Defaults to `False`.

    Returns:
        Two `PictureFiles` of the same classes, and a list of lines `"path: reason"` on what was
        left out.

    Raises:
        DataError: if the folder has no such parts, or they cannot be used.
    """
    parts, skipped = find_parts(folder)
    if not parts:
        raise DataError(
            f"The folder {quoted(folder)} must have two parts, train and one of val and test, "
            "with one subfolder a class."
        )
    train = find_classes(parts["train"], folder, skipped)
    test = find_classes(_test_part(parts), folder, skipped)
    check_same_classes(folder, train.class_names, test.class_names)
    check_strict(folder, strict, skipped)
    _check_pictures(train)
    _check_pictures(test)
    return train, test, skipped


def find_test_files(folder):
    """The test pictures of a folder, by their names, checked as by `find_training_files`.

    Args:
        folder: string, path of a folder in ImageNet's layout, of which `val` (or else `test`) is
            used, or of one with one subfolder a class.

    Returns:
        `PictureFiles`, and a list of lines `"path: reason"` on what was left out.

    Raises:
        DataError: if the folder cannot be used.
    """
    parts, skipped = find_parts(folder)
    files = find_classes(_test_part(parts) if parts else folder, folder, skipped)
    _check_pictures(files)
    return files, skipped


def _test_part(parts):
    return parts["val"] if "val" in parts else parts["test"]


def _check_pictures(files):
    reasons = check_headers(files.paths)
    bad = [(path, why) for path, why in zip(files.paths, reasons) if why is not None]
    if bad:
        path, why = bad[0]
        raise DataError(
            f"{len(bad)} of {len(files.paths)} pictures in {quoted(files.folder)} cannot be read, "
            f"the first is {printable(path)}: {why}."
        )
