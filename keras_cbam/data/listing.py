"""Which images there are in folders."""

import glob
import os
import pathlib
from collections.abc import Iterable

from keras_cbam.data.image_files import check_headers, images_among
from keras_cbam.errors import DataError, printable, quoted

# What archives of other systems leave behind; so are names that start with a dot.
_IGNORED = "__MACOSX"


def list_folder(folder, root):
    """A folder's visible subfolders and files, sorted, and lines on links that leave `root`."""
    folders, files, outside = [], [], []
    with os.scandir(folder) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == _IGNORED:
            continue
        is_link = entry.is_symlink()
        if is_link and not pathlib.Path(os.path.realpath(entry.path)).is_relative_to(root):
            line = f"{printable(entry.path)}: a symbolic link that leads outside the data folder"
            outside.append(line)
        else:
            # Of a link, without an error for one in a circle.
            is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()
            (folders if is_folder else files).append(entry.path)
    return folders, files, outside


def files_below(folder, root):
    """All files in a folder, sorted, and lines on what cannot be read and on repeated folders."""
    files, unreadable, repeated, seen = [], [], [], set()
    # A list of what is to be read, as folders may be nested deeper than functions may.
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:
                # Links in a circle, or many to one place, would be read without end.
                repeated.append(f"{printable(current)}: a folder that was read before")
                continue
            seen.add((status.st_dev, status.st_ino))
            folders, found, outside = list_folder(current, root)
        except OSError as error:
            unreadable.append(f"{printable(current)}: {error.strerror}")
            continue
        files.extend(found)
        unreadable.extend(outside)
        waiting.extend(reversed(folders))
    return sorted(files, key=lambda path: path.replace(os.sep, "/")), unreadable, repeated


def find_images(patterns: Iterable[str | os.PathLike]) -> tuple[list[str], list[str]]:
    """Finds images, told by their content, by paths of files, of folders and globs of such.

    Returns:
        The sorted paths without repeats, and a list of lines `"path: reason"` on the images that
        cannot be opened.

    Raises:
        DataError: if there is nothing at a pattern, or no image, or none of all can be opened.

    Example:

    >>> paths, skipped = find_images(["holiday", "more/*.jpg"])
    """
    paths, skipped = {}, {}
    for pattern in (os.fspath(pattern) for pattern in patterns):
        places = [pattern] if os.path.lexists(pattern) else glob.glob(pattern, recursive=True)
        if not places:
            raise DataError(f"There is no such file or folder as {quoted(pattern)}.")
        files, unreadable = [], []
        for place in places:
            found = [place]
            if os.path.isdir(place):
                found, left_out, _ = files_below(place, os.path.realpath(place))
                unreadable.extend(left_out)
            files.extend(found)
        images, broken = images_among(files)
        if files == [pattern] and not images:
            # A file that is named is not ignored, whatever it holds.
            broken = [f"{printable(pattern)}: {check_headers(files)[0]}"]
        if not (images or unreadable or broken):
            raise DataError(f"There is no image in {quoted(pattern)}.")
        # Without repeats, however a path is written.
        paths.update((os.path.abspath(path), path) for path in images)
        skipped.update(dict.fromkeys(unreadable + broken))
    if not paths:
        raise DataError(f"None of the images can be read, the first is {next(iter(skipped))}.")
    return sorted(paths.values()), list(skipped)
