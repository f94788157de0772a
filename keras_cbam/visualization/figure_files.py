"""Writes figures to files that are named after their images, and never replaces an image."""

import io
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from keras_cbam.errors import DataError, printable, quoted

# Letters of an image's file name that are kept.
STEM_LENGTH = 50


def as_png(figure: Any) -> bytes:
    """The bytes of a PNG file of a Matplotlib figure."""
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # Matplotlib's own font lacks many scripts: their letters become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(drawn, format="png")
    return drawn.getvalue()


def figure_names(paths: Iterable[str], ending: str) -> list[str]:
    """A file name `<name>_<ending>.png` for each path of an image, all of them different."""
    names, taken = [], set()
    for path in paths:
        stem = re.sub(r"[^\w.-]", "_", printable(pathlib.Path(path).stem))[:STEM_LENGTH]
        name, number = f"{stem}_{ending}.png", 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{ending}_{number}.png"
        names.append(name)
        taken.add(name.lower())
    return names


def write_files(files: Mapping[pathlib.Path, bytes]) -> None:
    """Writes `{path: bytes}` into one folder, which is made."""
    next(iter(files)).parent.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        # A link to a file elsewhere is replaced itself.
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def refuse_to_lose_files(files: list[pathlib.Path], images: Iterable[str], overwrite: bool) -> None:
    """Refuses files of one folder that would replace an image or, without `overwrite`, any file."""
    folder = files[0].parent
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"The output {quoted(folder)} is a file, not a folder.")
    own = set(map(os.path.realpath, images))
    for path in files:
        if os.path.realpath(path) in own:
            raise DataError(
                f"The figure {quoted(path)} would replace one of the images; choose another folder."
            )
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(
                f"The file {quoted(path)} exists already. "
                "Choose another --output, or pass --overwrite to replace it."
            )
