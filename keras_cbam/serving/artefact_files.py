"""Artefacts on the disk: whole or not at all, and in the place of nothing but an earlier one."""

import contextlib
import os
import pathlib
import shutil
import tempfile

from keras_cbam.errors import quoted

# What the folder of a SavedModel may hold.
_SAVED_MODEL = {
    *("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"),
    "keras_metadata.pb",
}


def refuse_to_lose_artefact(file_format, output, overwrite):
    """FileExistsError if anything except, with `overwrite`, one of its format is replaced."""
    if not output.exists():
        return
    is_artefact = output.is_file()
    if file_format == "saved_model":
        is_artefact = output.is_dir() and {path.name for path in output.iterdir()} <= _SAVED_MODEL
    if not is_artefact:
        why = f"exists already and is not a {file_format} artefact. Choose another --output."
    elif os.path.ismount(output):
        why = "is a mount point, which cannot be replaced. Choose a folder in it as --output."
    elif not overwrite:
        why = "exists already. Choose another --output, or pass --overwrite to replace it."
    else:
        return
    raise FileExistsError(f"The output {quoted(output)} {why}")


@contextlib.contextmanager
def beside(output):
    """A path in a new folder on the disk of `output`; the folder vanishes with the block."""
    # In a folder that exists already, so that a failure leaves no new ones.
    base = next(parent for parent in output.parents if parent.exists())
    if not base.is_dir():
        raise NotADirectoryError(f"The output cannot be in {quoted(base)}, which is a file.")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=base))
    try:
        yield scratch / output.name
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put_in_place(new, output):
    """Moves a file or folder that was written within `beside` to `output`, in the place of any."""
    output.parent.mkdir(parents=True, exist_ok=True)
    # A folder cannot be replaced in one step.
    aside = new.with_name("replaced")
    try:
        if output.is_dir() or (output.exists() and new.is_dir()):
            output.rename(aside)
        os.replace(new, output)
    except BaseException:
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise


def size_in_bytes(path):
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(file.stat().st_size for file in files)
