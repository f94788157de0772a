"""The arguments of a run, for the function, the command, the report and resume, without Keras."""

import contextlib
import dataclasses
import inspect
import json
import os
import typing

from keras_cbam.errors import (
    is_number,
    near_names,
    number,
    one_of,
    positive_integer,
    validate_seed,
)

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
# And the backend of each.
DISTRIBUTIONS = {"mirrored": "tensorflow", "data_parallel": "jax"}


def argument(default, help, check=None, **told) -> typing.Any:  # noqa: A002
    """A field of `RunArguments`: its help, a check by name and value, and `told` for the command.

    A resumed run may be given another value if `may_change`, as it may in the group `run`.
    """
    if check is None and "choices" in told:
        check = one_of(*told["choices"])
    told.setdefault("may_change", told.get("group") == "run")
    return dataclasses.field(default=default, metadata={"help": help, "check": check, **told})


def fields_of(group):
    """A function that makes an `argument` of that group: a number unless told, `False` a flag."""

    def field(help, default=None, check=None, **told) -> typing.Any:  # noqa: A002
        if default is False:
            check = one_of(False, True)
        elif "choices" not in told:
            told.setdefault("metavar", "N")
        return argument(default, help, check, group=group, **told)

    return field


network_field, data_field, optimization_field, running_field, run_field = map(
    fields_of, ("network", "data", "optimization", "running", "run")
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunArguments:
    """What every training takes; a task adds its own."""

    epochs: int = optimization_field(
        "passes over the training images; may be raised when a run is resumed",
        check=positive_integer,
        may_change=True,
    )
    batch_size: int = optimization_field(
        "images a training step, on all devices", check=positive_integer
    )
    learning_rate: float = optimization_field(
        "the highest rate of the schedule", check=number(open_below=True), metavar="RATE"
    )
    early_stopping: int = optimization_field(
        "stop when the validation loss has not fallen for N epochs, and take the best weights",
        check=positive_integer,
        may_change=True,
    )
    seed: int = optimization_field(
        "random seed of the weights, the split, the order of the images and their augmentation",
        0,
        validate_seed,
    )
    precision: str = running_field("dtype policy of the network", "float32", choices=PRECISIONS)
    xla: bool = running_field("compile the training step by XLA", False)
    distribute: str = running_field(
        "share each batch among all devices: mirrored (TensorFlow, one machine) or data_parallel "
        "(JAX, one machine or several)",
        choices=tuple(DISTRIBUTIONS),
    )
    strict: bool = data_field(
        "an image that cannot be read is an error; else it is skipped, counted and named", False
    )
    output: str = run_field("folder of the run", metavar="FOLDER")
    overwrite: bool = run_field(
        "replace an earlier run of the same task in the output folder", False
    )
    resume: str = run_field(
        "continue a run from its last checkpoint; needs no other option, and --epochs may be "
        "raised",
        metavar="RUN",
    )
    checkpoint_steps: int = run_field(
        "write a checkpoint after every N steps too, not only after every epoch",
        check=positive_integer,
    )
    tensorboard: bool = run_field("write logs for TensorBoard into the run", False)
    verbose: object = argument("auto", "", may_change=True)

    @classmethod
    def given(cls, earlier=None, **given):
        """The arguments of a call, with those of an `earlier` run to resume; checked."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in given:
            if name not in fields:
                raise TypeError(f"Unknown argument `{name}`. {near_names(name, fields)}")
        if earlier is None:
            return cls(**given).completed()
        output, own = given.get("output"), earlier["output"]
        if output is not None and os.path.abspath(output) != os.path.abspath(own):
            raise ValueError(
                f"A run is resumed in its own folder: `output` was {own!r}. "
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
            if not is_same and not fields[name].metadata["may_change"]:
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
        """These arguments with the defaults of the task, checked: ValueError if one is wrong."""
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

    def plain(value):
        return value.item() if is_number(value) else os.fspath(value)

    found = {}
    for name, value in arguments.items():
        with contextlib.suppress(TypeError):
            found[name] = json.loads(json.dumps(value, default=plain))
    return found


def filled(arguments: typing.Any, defaults: dict[str, typing.Any], *data: str) -> typing.Any:
    """The arguments of a task with defaults for those not given, and whole paths.

    What the command line calls none is `None`; `data` are names of data that are never paths.
    """
    found = {name: own for name, own in defaults.items() if getattr(arguments, name) is None}
    found["data"] = existing_path(arguments.data, *data)
    found["weights"] = existing_path(arguments.weights, "imagenet")
    found |= {name: None for name in ("attention", "weights") if getattr(arguments, name) == "none"}
    return dataclasses.replace(arguments, **found)


def existing_path(value, *names):
    """The absolute path of what exists, to resume from another folder; else the value as it is."""
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
