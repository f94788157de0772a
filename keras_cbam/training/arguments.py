"""The arguments of a run, each stated once: for the function, the command, the report and resume.

Nothing here imports Keras: the command reads its options before it does.
"""

import contextlib
import dataclasses
import inspect
import json
import os

from keras_cbam.errors import (
    is_number,
    near_names,
    number,
    one_of,
    positive_integer,
    validate_seed,
)

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
DISTRIBUTIONS = ("mirrored", "data_parallel")


def argument(default, help, check=None, **option):  # noqa: A002
    """A field of `RunArguments`.

    Args:
        default: its value where none is given.
        help: string, what it is, for the command and the documentation.
        check: function of name and value that raises ValueError; `None` is not checked.
            Defaults to `None`.
        **option: for the command: `kind` (`int`, `float`, `bool`; else a string), `choices`,
            `metavar` and `group`; and `may_change`, whether it may be another one when a run is
            resumed.
    """
    return dataclasses.field(default=default, metadata={"help": help, "check": check, **option})


def flag(help, **option):  # noqa: A002
    """A field that is true or false, and false by default."""
    return argument(False, help, one_of(False, True), kind=bool, **option)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunArguments:
    """What every training takes; a task adds its own."""

    epochs: int = argument(
        None,
        "passes over the training images; may be raised when a run is resumed",
        positive_integer,
        kind=int,
        metavar="N",
        group="optimization",
        may_change=True,
    )
    batch_size: int = argument(
        None,
        "images a training step, on all devices",
        positive_integer,
        kind=int,
        metavar="N",
        group="optimization",
    )
    learning_rate: float = argument(
        None,
        "the highest rate of the schedule",
        number(open_below=True),
        kind=float,
        metavar="RATE",
        group="optimization",
    )
    early_stopping: int = argument(
        None,
        "stop when the validation loss has not fallen for N epochs, and take the best weights",
        positive_integer,
        kind=int,
        metavar="N",
        group="optimization",
        may_change=True,
    )
    seed: int = argument(
        0,
        "random seed of the weights, the split, the order of the images and their augmentation",
        validate_seed,
        kind=int,
        metavar="N",
        group="optimization",
    )
    precision: str = argument(
        "float32",
        "dtype policy of the network",
        one_of(*PRECISIONS),
        choices=PRECISIONS,
        group="running",
    )
    xla: bool = flag("compile the training step by XLA", group="running")
    distribute: str = argument(
        None,
        "share each batch among all devices: mirrored (TensorFlow, one machine) or data_parallel "
        "(JAX, one machine or several)",
        one_of(*DISTRIBUTIONS),
        choices=DISTRIBUTIONS,
        group="running",
    )
    strict: bool = flag(
        "an image that cannot be read is an error; else it is skipped, counted and named",
        group="data",
    )
    output: str = argument(
        None, "folder of the run", metavar="FOLDER", group="run", may_change=True
    )
    overwrite: bool = flag(
        "replace an earlier run of the same task in the output folder", group="run", may_change=True
    )
    resume: str = argument(
        None,
        "continue a run from its last checkpoint; needs no other option, and --epochs may be "
        "raised",
        metavar="RUN",
        group="run",
        may_change=True,
    )
    checkpoint_steps: int = argument(
        None,
        "write a checkpoint after every N steps too, not only after every epoch",
        positive_integer,
        kind=int,
        metavar="N",
        group="run",
        may_change=True,
    )
    tensorboard: bool = flag(
        "write logs for TensorBoard into the run", group="run", may_change=True
    )
    verbose: object = argument("auto", "", may_change=True)

    @classmethod
    def given(cls, earlier=None, **given):
        """The arguments of a call, completed and checked.

        Args:
            earlier: dict, those of the run to resume, see `stored`. Defaults to `None`.
            **given: those that the call gives.

        Raises:
            TypeError: if there is no such argument.
            ValueError: if one is outside its range, or differs from that of the run to resume.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in given:
            if name not in fields:
                raise TypeError(f"Unknown argument `{name}`. {near_names(name, fields)}")
        if earlier is None:
            return cls(**given).completed()
        output = given.get("output")
        if output is not None and os.path.abspath(output) != os.path.abspath(earlier["output"]):
            raise ValueError(
                f"A run is resumed in its own folder: `output` was {earlier['output']!r}. "
                f"Received: output={str(output)!r}"
            )
        for name in sorted(fields.keys() - earlier.keys() - given.keys()):
            raise ValueError(
                f"`{name}` of the run could not be stored: give the same again to resume it."
            )
        merged = cls(**{**earlier, "overwrite": False, **given}).completed()
        for name in sorted(given.keys() & earlier.keys()):
            value = getattr(merged, name)
            is_same = stored({name: value}).get(name, value) == earlier[name]
            if not is_same and not fields[name].metadata.get("may_change"):
                raise ValueError(
                    f"A run is resumed with its own arguments: `{name}` was {earlier[name]!r}. "
                    f"Received: {name}={given[name]!r}"
                )
        if merged.epochs < earlier["epochs"]:
            raise ValueError(
                f"`epochs` may be raised when a run is resumed, not lowered: they were "
                f"{earlier['epochs']}. Received: epochs={merged.epochs}"
            )
        return merged

    def completed(self):
        """These arguments with the defaults of the task filled in, and checked.

        Raises:
            ValueError: if one is outside its range.
        """
        self.check()
        return self

    def check(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["check"] and (value is not None or field.default is not None):
                field.metadata["check"](field.name, value)
        for name in ("checkpoint_steps", "early_stopping", "tensorboard"):
            if getattr(self, name) and self.output is None and self.resume is None:
                raise ValueError(
                    f"`{name}` needs `output`, the folder that it writes to. "
                    f"Received: {name}={getattr(self, name)!r}, output=None"
                )


def stored(arguments):
    """The part of a dict of arguments that JSON has a form for; paths as strings."""
    found = {}
    for name, value in arguments.items():
        with contextlib.suppress(TypeError):
            found[name] = json.loads(json.dumps(value, default=_plain))
    return found


def _plain(value):
    """A number of NumPy or a path as JSON has it; TypeError for all else."""
    return value.item() if is_number(value) else os.fspath(value)


def existing_path(value, *names):
    """The absolute path of what exists, so that a run can be resumed from another folder.

    Args:
        value: what an argument was given.
        *names: strings that are no paths, whatever there is of that name.
    """
    is_path = isinstance(value, (str, os.PathLike)) and value not in names and os.path.exists(value)
    return os.path.abspath(value) if is_path else value


def with_signature(arguments):
    """A decorator: the function takes the fields of a dataclass as its keyword arguments."""

    def decorate(function):
        parameters = [
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
            for field in dataclasses.fields(arguments)
        ]
        function.__signature__ = inspect.Signature(parameters)
        return function

    return decorate
