"""The errors of the package, and what their messages and its checks of arguments share."""

import difflib
import numbers
import signal

# Letters of another error's message that are passed on: Keras adds whole configurations.
LONGEST_REASON = 300


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

    def __init__(self, number, epoch, step):
        super().__init__(
            f"Stopped by {signal.Signals(number).name} after {epoch} epochs and {step} steps; "
            "the state is saved, and `--resume` continues from it."
        )
        self.signal = number


def printable(text):
    """`text` with line ends, undecodable bytes and all else that is not printable escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def quoted(path):
    return f"'{printable(path)}'"


def first_line(error):
    """The first line of an error's message, for the end of another message's sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0][:LONGEST_REASON]).rstrip(".")


def last_line(text):
    """The end of what a failed process printed: the message of its exception."""
    return (text.strip().splitlines() or ["no message"])[-1]


def near_names(name, names):
    """A sentence that suggests the names near to a misspelt one, or lists all if none is."""
    near = difflib.get_close_matches(str(name).lower(), [known.lower() for known in names], n=3)
    close = [known for known in names if known.lower() in near]
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"Known: {', '.join(map(repr, names))}."


def is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def positive_integer(name, value):
    if not _is_integer(value) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)


def validate_seed(name, seed):
    """Raises ValueError unless it is an integer that NumPy and Keras take."""
    if not _is_integer(seed) or not 0 <= seed < 2**32:
        raise ValueError(
            f"`{name}` must be an integer of at least 0 and below 2**32. Received: {name}={seed!r}"
        )


def one_of(*choices):
    """A check that a value is one of the choices."""

    def check(name, value):
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")

    return check


def number(least=0.0, below=float("inf"), open_below=False):
    """A check that a value is a number of at least `least` (above it if open) and below `below`."""

    def check(name, value):
        is_above = is_number(value) and (value > least if open_below else value >= least)
        if not is_above or value >= below:
            raise ValueError(
                f"`{name}` must be a number {'above' if open_below else 'of at least'} {least:g}"
                f"{'' if below == float('inf') else f' and below {below:g}'}. "
                f"Received: {name}={value!r}"
            )

    return check


def at_least(least):
    """A check that a value is an integer of at least `least`."""

    def check(name, value):
        if not _is_integer(value) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
            )

    return check
