"""Folders with a subfolder for each class, alone or in parts to train, validate and test on."""

import os
import re

import numpy as np

from keras_cbam.data.image_files import images_among
from keras_cbam.data.image_sources import FileImages, stop_if_too_many
from keras_cbam.data.labelled_images import WHOLE, LabelledImages, labels_by_name
from keras_cbam.data.listing import files_below, list_folder
from keras_cbam.errors import DataError, printable, quoted

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class FolderParts:
    """The parts of a folder, each with a subfolder of images for each class; decodes nothing.

    Its `kinds` are those of `KINDS` that there are, or `WHOLE` alone, and `skipped` has lines
    `"path: reason"` on what was left out of the parts that were read.
    """

    def __init__(self, folder, image_size, resize, strict):
        self._folder, self._root = folder, os.path.realpath(folder)
        self._image_size, self._resize, self._is_strict = image_size, resize, strict
        self._unreadable, self._left_out = [], []
        try:
            self._paths = self._find_parts()
        except OSError as error:
            reason = error.strerror
            raise DataError(f"The folder {quoted(folder)} cannot be read: {reason}.") from error
        self.kinds = tuple(self._paths)

    @property
    def skipped(self):
        return self._unreadable + self._left_out

    def read(self, kind, class_names=None):
        """Finds the images of a part; returns `LabelledImages` and its class names."""
        folder = self._paths[kind]
        classes = self._find_classes(folder)
        least = 2 if class_names is None else 1
        if len(classes) < least:
            skipped = self.skipped
            more = f" ({len(skipped)} skipped, the first is {skipped[0]})" if skipped else ""
            raise DataError(
                f"The folder {quoted(folder)} must have a subfolder of images for each of at least "
                f"{least} classes, received {', '.join(map(repr, classes)) or 'none'}{more}."
            )
        class_names = list(classes) if class_names is None else class_names
        labels = labels_by_name(classes, class_names, folder)
        paths = [path for found in classes.values() for path in found]
        labels = np.repeat(labels, [len(found) for found in classes.values()])
        images = FileImages(paths, self._image_size, self._resize, self._is_strict)
        return LabelledImages(images, labels), class_names

    def _find_parts(self):
        """`{kind: path}`; adds what lies beside the parts to what was left out."""
        folder = self._inner(self._folder)
        subfolders, stray, outside = list_folder(folder, self._root)
        groups = {}
        for path in subfolders:
            kind, rest = _part_of(os.path.basename(path))
            groups.setdefault(rest, {}).setdefault(kind, []).append(path)
        groups.pop(None, None)
        found = []
        for group in groups.values():
            parts = {kind: paths[0] for kind, paths in group.items() if self._has_classes(paths[0])}
            others = [path for path in subfolders if path not in parts.values()]
            is_clear = "train" in parts and all(len(paths) == 1 for paths in group.values())
            # Beside other folders of classes, and without parts, one called train is a class.
            if is_clear and (len(group) > 1 or not any(map(self._has_classes, others))):
                found.append((parts, others))
        if len(found) != 1:
            return {WHOLE: folder}
        ((parts, others),) = found
        if len(parts) < 2:
            raise DataError(
                f"The folder {quoted(folder)} must have subfolders of classes in two parts, "
                f"received them in {_names(parts.values())} alone, not in {_names(others)}: pass "
                f"the folder {quoted(*parts.values())} itself, of which a part is split off to "
                "test on."
            )
        self._unreadable.extend(outside)
        self._leave_out(others, "a folder beside the parts")
        self._leave_out(images_among(stray)[0], "an image outside the class folders")
        kinds = sorted(parts, key=("train", "validation", "test").index)
        return {kind: self._inner(parts[kind]) for kind in kinds}

    def _has_classes(self, folder):
        return bool(list_folder(folder, self._root)[0])

    def _inner(self, folder):
        """The folder, or the one in it that holds the subfolders, if it holds no other."""
        while True:
            folders, _, _ = list_folder(folder, self._root)
            if len(folders) != 1 or not self._has_classes(folders[0]):
                return folder
            folder = folders[0]

    def _find_classes(self, folder):
        """`{name: paths of images}` of a folder with one subfolder a class."""
        subfolders, stray, outside = list_folder(folder, self._root)
        self._unreadable.extend(outside)
        self._leave_out(images_among(stray)[0], "an image outside the class folders")
        files = {}
        for path in subfolders:
            files[path], unreadable, repeated = files_below(path, self._root)
            self._unreadable.extend(unreadable)
            self._left_out.extend(repeated)
        images, broken = images_among([path for found in files.values() for path in found])
        self._unreadable.extend(broken)
        if self._is_strict:
            broken = self._unreadable
        stop_if_too_many(broken, len(images) + len(broken), self._is_strict)
        images = set(images)
        files = {path: [file for file in found if file in images] for path, found in files.items()}
        self._leave_out([path for path in files if not files[path]], "a folder without images")
        files = {path: found for path, found in files.items() if found}
        _refuse_parts(folder, files)
        classes = {}
        for path, found in files.items():
            # Two names may differ in what is not printable alone.
            classes.setdefault(printable(os.path.basename(path)), []).extend(found)
        return classes

    def _leave_out(self, paths, reason):
        self._left_out.extend(f"{printable(path)}: {reason}" for path in sorted(paths))


def _part_of(name):
    """Which part a folder is called, and the rest of its name; `(None, None)` if none."""
    words = re.split(r"[_\-\s]+", name.lower())
    kinds = [_PARTS[word] for word in words if word in _PARTS]
    if len(kinds) != 1:
        return None, None
    return kinds[0], tuple(word for word in words if word not in _PARTS)


def _names(paths):
    names = sorted(repr(printable(os.path.basename(path))) for path in paths)
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


def _refuse_parts(folder, files):
    """Raises DataError if the classes hold the same subfolders and nothing else."""
    inner = []
    for path, found in files.items():
        places = [file[len(path) + 1 :].split(os.sep) for file in found]
        inner.append({place[0] for place in places} if min(map(len, places)) > 1 else set())
    shared = set.intersection(*inner) if len(inner) > 1 else ()
    # One that is shared is a habit of naming, if it is alone, as images in Tiny ImageNet.
    if shared and max(map(len, inner)) > 1:
        raise DataError(
            f"The subfolders {_names(files)} of {quoted(folder)} all hold the subfolders "
            f"{_names(shared)}, as parts of the data do and classes do not: call them train and "
            "val."
        )
