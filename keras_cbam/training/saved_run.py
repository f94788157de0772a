"""A saved model, as every verb takes it: the folder of a run, or a file alone."""

import dataclasses
import os
import pathlib
import typing
import zipfile

from keras_cbam.errors import DataError, ModelError, first_line, printable, quoted
from keras_cbam.training.run_folder import ARGUMENTS, MODEL, REPORT, read_json

if typing.TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A saved model and its run; a file alone has no task, arguments, report and class names.

    Attributes:
        model_file: `pathlib.Path` of the `.keras` file.
        task: string, the name of the task.
        arguments: dict, the arguments of the run.
        report: dict, its `report.json`.
        class_names: list of strings, in the order of the model's outputs.
    """

    model_file: pathlib.Path
    task: str | None = None
    arguments: dict = dataclasses.field(default_factory=dict)
    report: dict = dataclasses.field(default_factory=dict)
    class_names: list | None = None

    def complete(self, arguments):
        """The arguments of the run as this `RunArguments`; ModelError if it has others."""
        try:
            return arguments(**self.arguments).completed()
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"The {ARGUMENTS} beside {quoted(self.model_file)} is not of this version: "
                f"{first_line(error)}."
            ) from error

    def own_data(self, load: typing.Callable[[], typing.Any], may_differ: bool = False):
        """The data of the training by their loader; DataError if they have changed, or are gone."""
        if self.task is None:
            raise ValueError(
                f"{quoted(self.model_file)} is a model without a run, which has no data of its "
                "own: pass `data`, --data on the command line."
            )
        try:
            data = load()
        except DataError as error:
            raise DataError(
                "The data of the training cannot be used any more, pass others by --data: "
                f"{first_line(error)}."
            ) from error
        then = (self.report.get("data") or {}).get("digest")
        if not may_differ and then not in (None, data.identity()):
            raise DataError(f"The data {quoted(data.name)} have changed: pass others by --data.")
        return data

    def check_classes(self, count: int) -> None:
        """Raises ModelError unless the run names so many classes, or none."""
        if self.class_names is not None and len(self.class_names) != count:
            raise ModelError(
                f"The run of {quoted(self.model_file)} names {len(self.class_names)} classes, the "
                f"model has {count}."
            )

    def config(self) -> str:
        """The configuration of the model, JSON; ModelError if it cannot be read."""
        from keras_cbam.files.model_files import read_config

        return self._read(read_config).decode(errors="replace")

    def load(self) -> "keras.Model":
        """The `keras.Model`, not compiled; code in the file is not run. ModelError if it fails."""
        from keras_cbam.files.model_files import load_keras_file

        return self._read(load_keras_file)

    def _read(self, function):
        try:
            return function(self.model_file)
        except Exception as error:
            # A damaged archive fails in zipfile, json, h5py or Keras, each with errors of its own.
            raise ModelError(
                f"The Keras model {quoted(self.model_file)} cannot be loaded: {first_line(error)}."
            ) from error


def find_run(path: str | os.PathLike) -> SavedRun:
    """The `SavedRun` at a path: the folder of a run, its `model.keras`, or any `.keras` file.

    Raises:
        ModelError: if there is no trained model.

    Example:

    >>> find_run("run").class_names
    ['cat', 'dog']
    """
    path = pathlib.Path(path)
    model_file = path / MODEL if path.is_dir() else path
    told = read_json(model_file.parent / ARGUMENTS)
    is_run = "task" in told and model_file.name == MODEL
    if not model_file.is_file():
        reason = f"it has no {MODEL}" if path.is_dir() else "there is no such file or folder"
        if is_run:
            reason = "its training has not ended: --resume continues it"
        raise ModelError(f"{quoted(path)} is not a trained model: {reason}.")
    if model_file.suffix != ".keras" or not zipfile.is_zipfile(model_file):
        raise ModelError(f"The file {quoted(model_file)} is not a Keras model saved as .keras.")
    if not is_run:
        return SavedRun(model_file)
    report, arguments = read_json(model_file.parent / REPORT), told.get("arguments")
    names = told.get("class_names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not isinstance(arguments, dict) or not (names is None or is_list):
        raise ModelError(f"The {ARGUMENTS} beside {quoted(model_file)} is damaged.")
    names = names and [printable(name) for name in names]
    return SavedRun(model_file, told["task"], arguments, report, names)
