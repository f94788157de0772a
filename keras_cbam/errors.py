"""The errors of the package, the parts of their messages, and checks of arguments."""

import difflib
import importlib
import numbers
import signal
import types
import typing
from collections.abc import Callable, Container, Iterable

# Letters of another error's message that are passed on: Keras adds whole configurations.
LONGEST_REASON = 300
_Check = Callable[[str, typing.Any], None]


class CheckpointError(ValueError):
    """A PyTorch checkpoint that cannot be used. The message says which and why."""


class DataError(ValueError):
    """Data that cannot be used. The message is one sentence that says which and why."""


class ModelError(ValueError):
    """A saved model that cannot be used. The message is one sentence that says which and why."""


class WeightsError(ValueError):
    """A weights file that cannot be used. The message says which and why."""


class ExportError(RuntimeError):
    """A model that cannot be exported, or an artefact that predicts otherwise than its model."""


class TrainingError(RuntimeError):
    """A training that gave no usable model, or a saved model that is not the trained one."""


class DivergenceError(TrainingError):
    """A training whose loss or weights are not finite any more."""


class TrainingStopped(KeyboardInterrupt):
    """A training that a signal, of the number `signal`, stopped after its state was saved."""

    def __init__(self, number: int, epoch: int, step: int) -> None:
        super().__init__(
            f"Stopped by {signal.Signals(number).name} after {epoch} epochs and {step} steps; "
            "the state is saved, and `--resume` continues from it."
        )
        self.signal = number


def printable(text: object) -> str:
    """`text` with line ends, undecodable bytes and all else that is not printable escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def quoted(path: object) -> str:
    return f"'{printable(path)}'"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for the end of another message's sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0][:LONGEST_REASON]).rstrip(".")


def last_line(text: str) -> str:
    """The end of what a failed process printed: the message of its exception."""
    return (text.strip().splitlines() or ["no message"])[-1]


def library(name: str, extra: str) -> types.ModuleType:
    """A module of an extra's package; ImportError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This needs a further package: run `pip install keras_cbam[{extra}]`. {error}."
        ) from error


def require(is_met: typing.Any, requirement: str, received: object) -> None:
    """Raises ValueError, `<requirement> Received: <received>`, unless the requirement is met."""
    if not is_met:
        raise ValueError(f"{requirement} Received: {received}")


def listed(names: Iterable[str], most: int = 40) -> str:
    """The names for the end of a message, at most so many of them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def near_names(name: object, names: Iterable[str], most: int = 40) -> str:
    """A sentence that suggests the names nearest to a misspelt one, or lists `most` if none is."""
    known, names = {}, list(names)
    for one in names:
        known.setdefault(one.lower(), []).append(one)
    near = difflib.get_close_matches(str(name).lower(), known, n=3)
    if near:
        return f"Did you mean {' or '.join(repr(one) for key in near for one in known[key])}?"
    return known_names(names, most)


def known_names(names: Iterable[str], most: int = 40) -> str:
    """A sentence that lists the names, at most so many of them."""
    return f"Known: {listed(map(repr, names), most)}."


def is_number(value: object) -> typing.TypeGuard[float]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value: object) -> typing.TypeGuard[int]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def different_ones(name: str, value: object, allowed: Container[str]) -> tuple[str, ...]:
    """`value`, one or several different ones of the allowed strings, as a tuple."""
    values = (value,) if isinstance(value, str) else value
    if (
        not isinstance(values, (list, tuple))
        or not values
        or any(each not in allowed for each in values)
        or len(set(values)) != len(values)
    ):
        raise ValueError(
            f"`{name}` must be one or several different ones of {allowed}. "
            f"Received: {name}={value!r}"
        )
    return tuple(values)


def _check(is_met: Callable[[typing.Any], bool], requirement: str) -> _Check:
    """A function of a name and a value that raises ValueError unless the value is as required."""

    def check(name, value):
        if not is_met(value):
            raise ValueError(f"`{name}` must be {requirement}. Received: {name}={value!r}")

    return check


def one_of(*choices: typing.Any) -> _Check:
    """A check that a value is one of the choices."""
    return _check(lambda value: value in choices, f"one of {choices}")


def at_least(least: int) -> _Check:
    """A check that a value is an integer of at least `least`."""
    return _check(
        lambda value: _is_integer(value) and value >= least, f"an integer of at least {least}"
    )


def number(least: float = 0.0, below: float = float("inf"), open_below: bool = False) -> _Check:
    """A check that a value is a number of at least `least` (above it if open) and below `below`."""

    def is_met(value):
        is_above = is_number(value) and (value > least if open_below else value >= least)
        return is_above and value < below

    limit = "" if below == float("inf") else f" and below {below:g}"
    return _check(is_met, f"a number {'above' if open_below else 'of at least'} {least:g}{limit}")


# The seeds that NumPy and Keras take.
validate_seed = _check(
    lambda seed: _is_integer(seed) and 0 <= seed < 2**32,
    "an integer of at least 0 and below 2**32",
)
_check_boolean = _check(lambda value: value in (True, False), "True or False")
_check_positive = _check(lambda value: _is_integer(value) and value >= 1, "a positive integer")


def positive_integer(name: str, value: typing.Any) -> int:
    """The value as an int; raises ValueError unless it is a positive integer."""
    _check_positive(name, value)
    return int(value)


def boolean(name, value):
    """The value as a bool; raises ValueError unless it is one."""
    _check_boolean(name, value)
    return bool(value)
