"""The folder of a run: a training writes inside it only, and removes nothing that was trained."""

import contextlib
import csv
import fcntl
import json
import os
import pathlib
import shutil

from keras_cbam.errors import ExportError, TrainingError, first_line, quoted
from keras_cbam.training.arguments import stored

ARGUMENTS, REPORT, HISTORY, MODEL = "arguments.json", "report.json", "history.csv", "model.keras"
BEST, CHECKPOINTS, TENSORBOARD = "best.weights.h5", "checkpoints", "tensorboard"
# What is written moves from here to its place when it is whole; and the lock of a training.
_PARTIAL, _LOCK = ".partial", ".lock"
_COMMON = (ARGUMENTS, REPORT, HISTORY, MODEL, BEST, CHECKPOINTS, TENSORBOARD)


class RunFolder:
    """Where the first process of a run writes, if there is a path: locked until the block ends."""

    def __init__(self, path, task, is_writing=True):
        self.path = None if path is None else pathlib.Path(path).absolute()
        self.task = task
        self.is_writing = is_writing and path is not None
        self.checkpoints = None if path is None else self.path / CHECKPOINTS
        self.lock = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.lock is not None:
            self.lock.close()

    def check(self):
        """Raises FileExistsError if the run would write over anything but a run of its task."""
        if self.path is None or not self.path.exists():
            return
        if not self.path.is_dir():
            raise FileExistsError(f"The output {quoted(self.path)} is a file, not a folder.")
        # An empty mount point holds a folder of its own.
        names = {path.name for path in self.path.iterdir()} - {"lost+found"}
        names = sorted(name for name in names if not name.startswith("."))
        earlier = read_json(self.path / ARGUMENTS).get("task")
        arguments, more = self.task.arguments, ""
        if not names:
            return
        if earlier is None:
            why = f"holds files that are not of a run: {', '.join(names[:5])}"
        elif earlier != self.task.name:
            why = f"holds a run of {earlier}, which a run of {self.task.name} does not replace"
        elif arguments.overwrite or arguments.resume is not None:
            return
        elif (self.path / MODEL).exists():
            why, more = "already holds a run", ", or pass --overwrite to replace it"
        else:
            why = "already holds an unfinished run"
            more = ", or pass --overwrite to replace it or --resume to continue it"
        raise FileExistsError(
            f"The output folder {quoted(self.path)} {why}. Choose another --output{more}."
        )

    def begin(self, class_names):
        """Makes the folder, empty unless a run is resumed; FileExistsError if it is in use."""
        if not self.is_writing:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        # The lock is given back when the block or the process ends, however it does.
        self.lock = open(self.path / _LOCK, "w")  # noqa: SIM115
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FileExistsError(
                f"Another process is training in {quoted(self.path)}. Choose another --output."
            ) from error
        arguments = self.task.arguments
        if arguments.resume is None:
            # Its arguments last: until then it is known as a run, which --overwrite replaces.
            for name in (_PARTIAL, *self.task.files, *reversed(_COMMON)):
                _remove(self.path / name)
        told = {"task": self.task.name, "class_names": class_names}
        told["arguments"] = stored(vars(arguments))
        # First: without it, what else is here is not known as a run.
        self.write_json(ARGUMENTS, told)
        self.checkpoints.mkdir(exist_ok=True)

    def remove_results(self):
        """Removes what was made of an earlier state of the model: all of it is made again."""
        for name in (*self.task.files, REPORT) if self.is_writing else ():
            _remove(self.path / name)

    def write_json(self, name, content):
        if self.is_writing:
            write_json(self.path, name, content)

    def write_history(self, history):
        """Writes `history.csv`: a row for each epoch so far."""
        if not history:
            return

        def write(path):
            with open(path, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["epoch", *history])
                rows = zip(*history.values())
                writer.writerows([epoch, *row] for epoch, row in enumerate(rows, 1))

        self._whole(HISTORY, write)

    def save(self, name, write):
        """Writes an artefact by a function of a path, whole or not at all; OSError if it fails."""
        import tensorflow as tf

        try:
            self._whole(name, write)
        except ExportError:
            raise
        except (OSError, tf.errors.OpError, RuntimeError) as error:
            # The writers of TensorFlow and HDF5 have errors of their own for a full disk.
            raise OSError(
                f"Writing {quoted(self.path / name)} failed: {first_line(error)}"
            ) from error

    def _whole(self, name, write):
        if self.is_writing:
            write_whole(self.path, name, write)


def write_whole(folder, name, write):
    """Writes a file or folder in a folder by a function of a path, whole or not at all."""
    partial = folder / _PARTIAL / name
    partial.parent.mkdir(exist_ok=True)
    _remove(partial)
    try:
        write(partial)
        if partial.is_dir():
            _remove(folder / name)
        os.replace(partial, folder / name)
    finally:
        _remove(partial)
        with contextlib.suppress(OSError):
            # Another artefact may be in it.
            partial.parent.rmdir()


def write_json(folder, name, content):
    write_whole(folder, name, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))


def _remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path):
    """A dict in a JSON file; an empty one if there is none, or it holds anything else."""
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def resumable(path, task_name):
    """The arguments of a run, if any, to be resumed; TrainingError if it is not of the task."""
    if path is None:
        return None
    told = read_json(pathlib.Path(path) / ARGUMENTS)
    if told.get("task") != task_name or not isinstance(told.get("arguments"), dict):
        raise TrainingError(f"There is no run of {task_name} to resume in {quoted(path)}.")
    return {**told["arguments"], "output": str(path), "resume": str(path)}
