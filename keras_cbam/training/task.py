"""What a task tells the trainer, which knows nothing of classifiers and detectors."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import keras

from keras_cbam.data.order import ONE_DEVICE


@dataclasses.dataclass(frozen=True)
class Phase:
    """Epochs, at least one, with one optimizer: the model is compiled for them in a context."""

    epochs: int
    compiled: Callable[[], contextlib.AbstractContextManager]


def figure_writers(figures: dict[str, Callable[[], Any]]) -> dict[str, Callable]:
    """`{name: function that writes it to a path}` of functions that draw figures."""
    return {name: lambda path, draw=draw: draw().savefig(path) for name, draw in figures.items()}


class Data(Protocol):
    """What a task trains on."""

    @property
    def name(self) -> str: ...

    @property
    def class_names(self) -> list[str]: ...

    def identity(self) -> str:
        """A string that differs for other data: a run is resumed with the same."""

    def describe(self) -> dict:
        """What the report says: the number of images of each part, and what was skipped."""

    def sources(self) -> list:
        """The image sources that batches read, for `keras_cbam.data.reading`."""


class Task(Protocol):
    """A kind of model that can be trained; `files` are the names of what `artefacts` may write."""

    name: str
    arguments: Any
    files: tuple

    def load(self) -> Data:
        """The data of the arguments."""

    def build(self, data: Any) -> keras.Model:
        """The network, uncompiled, with its initial weights."""

    def phases(self, model: keras.Model, steps: int) -> list[Phase]:
        """How it is trained, for that number of steps an epoch."""

    def batches(self, data, part, epoch=0, first_step=0, devices=ONE_DEVICE) -> Any:
        """A `tf.data.Dataset`: a pure function of its arguments.

        `part` is `"train"`, `"validation"`, `"test"`, or `"sample"`: a few images of the last.
        """

    def validate(self, model: keras.Model, data: Any) -> dict[str, float]:
        """What an epoch's history has of the validation part beside Keras' own, from `val_` on."""

    def measure(self, model: keras.Model, data: Any) -> tuple[dict, Any]:
        """The metrics of the test part, for the report, and the predictions that they are of."""

    def artefacts(self, model, data, history, report, predictions) -> dict[str, Callable]:
        """`{name: function that writes it to a path}`; each may fail alone."""

    def compare(self, expected, found, tolerance: float, /) -> dict:
        """How far predictions of a reloaded model are off; TrainingError if it is too far."""
