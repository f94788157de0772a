"""A task that trains in a second, for the tests of the trainer."""

import contextlib
import dataclasses
import signal

import keras
import numpy as np

from keras_cbam import ChannelAttention
from keras_cbam.data.order import ONE_DEVICE, epoch_order, share
from keras_cbam.errors import TrainingError
from keras_cbam.files.fresh_process import FreshProcessError
from keras_cbam.training import check
from keras_cbam.training.arguments import RunArguments, argument
from keras_cbam.training.precision import jit_compile
from keras_cbam.training.progress import Progress
from keras_cbam.training.run_folder import resumable
from keras_cbam.training.task import Phase
from keras_cbam.training.trainer import train

SIZE, CLASSES = 16, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyArguments(RunArguments):
    epochs: int = argument(3, "", kind=int, may_change=True)
    batch_size: int = argument(8, "", kind=int)
    learning_rate: float = argument(0.1, "", kind=float)
    first_phase: int = argument(0, "", kind=int)
    images: int = argument(44, "", kind=int)


class ToyData:
    name = "toy images"
    class_names = ["dark", "light"]

    def __init__(self, count):
        generator = np.random.default_rng(0)
        self.labels = np.arange(count) % CLASSES
        noise = generator.integers(0, 200, (count, SIZE, SIZE, 3))
        self.images = (noise + 40 * self.labels[:, None, None, None]).astype("uint8")

    def identity(self):
        return str(len(self.labels))

    def describe(self):
        return {"name": self.name, "class_names": self.class_names}

    def sources(self):
        return []


class ToyTask:
    """Constant rate; batch statistics, dropout and momentum are all kinds of state."""

    name = "toy"
    files = ("figure.png", "broken.png", "saved_model")

    def __init__(self, arguments):
        self.arguments = arguments

    def load(self):
        return ToyData(self.arguments.images)

    def build(self, data):
        inputs = keras.Input((SIZE, SIZE, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
        x = keras.layers.Conv2D(4, 3, strides=2)(x)
        x = keras.layers.BatchNormalization()(x)
        x = ChannelAttention(reduction_ratio=2)(x)
        x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
        return keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax", dtype="float32")(x))

    def phases(self, model, steps):
        @contextlib.contextmanager
        def compiled():
            rate = self.arguments.learning_rate
            model.compile(
                keras.optimizers.SGD(rate, momentum=0.9),
                "sparse_categorical_crossentropy",
                metrics=["accuracy"],
                jit_compile=jit_compile(self.arguments.xla),
            )
            yield

        first = self.arguments.first_phase
        return [Phase(n, compiled) for n in (first, self.arguments.epochs - first) if n]

    def batches(self, data, part, epoch=0, first_step=0, devices=ONE_DEVICE):
        import tensorflow as tf

        order = np.arange(len(data.labels))
        size = self.arguments.batch_size
        if part == "train":
            order, _ = epoch_order(len(order), self.arguments.seed, epoch)
            order = share(order, size, devices, first_step)
        arrays = data.images[order], data.labels[order]
        return tf.data.Dataset.from_tensor_slices(arrays).batch(size)

    def validate(self, model, data):
        return {"val_mean_of_weights": float(np.mean(model.get_weights()[0]))}

    def measure(self, model, data):
        found = model.predict(data.images, verbose=0)
        return {"accuracy": float((found.argmax(axis=-1) == data.labels).mean())}, found

    def artefacts(self, model, data, history, report, predictions):
        return {"figure.png": lambda path: path.write_text("a figure")}

    @staticmethod
    def compare(expected, found, tolerance):
        difference = float(np.abs(expected["predictions"] - found["predictions"]).max())
        if difference > tolerance:
            raise TrainingError(f"largest difference {difference}")
        return {"probabilities": difference}


def train_toy(task=ToyTask, **given):
    earlier = resumable(given["resume"], "toy") if given.get("resume") else None
    return train(task(ToyArguments.given(earlier, **{"verbose": 0, **given})))


def check_in_this_process(module, arguments):
    """As `run_module` does, which takes seconds."""
    try:
        return check._compare(**arguments)
    except TrainingError as error:
        raise FreshProcessError(str(error)) from error


def assert_alike(run, other):
    """The same history to the last digit, and the same weights to the last bit."""
    assert run.history == other.history
    for ours, theirs in zip(run.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def stop_after(monkeypatch, steps, number=signal.SIGINT, times=1):
    """Sends a signal after so many steps of this process."""
    count = [0]
    end_step = Progress.end_step

    def end(self, *arguments):
        count[0] += 1
        if count[0] == steps:
            for _ in range(times):
                signal.raise_signal(number)
        end_step(self, *arguments)

    monkeypatch.setattr(Progress, "end_step", end)
