import errno
import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam.classification.task import fit_classifier
from keras_cbam.data.labelled_images import DataSet
from keras_cbam.errors import TrainingError, TrainingStopped
from keras_cbam.training import checkpoints
from keras_cbam.training.checkpoints import checkpoint_files
from keras_cbam.training.progress import Progress

PICTURES = 22
STEPS = 6


@pytest.fixture(scope="module")
def data_set():
    generator = np.random.default_rng(0)
    labels = (np.arange(PICTURES) % 2).astype("int32")
    pictures = generator.integers(0, 200, (PICTURES, 8, 8, 3)) + 40 * labels[:, None, None, None]
    pictures = pictures.astype("uint8")
    return DataSet("noise", pictures, labels, pictures[:6], labels[:6], ["a", "b"], [])


def classifier(units=2):
    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(units, 3)(inputs)
    backbone = keras.Model(inputs, keras.layers.BatchNormalization()(x), name="backbone")
    x = backbone(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(pixels, keras.layers.Dense(2, activation="softmax", dtype="float32")(x))


def fit(model, data_set, progress=None, **arguments):
    arguments = {"epochs": 3, "batch_size": 4, "learning_rate": 0.05, "verbose": 0, **arguments}
    return fit_classifier(model, data_set, progress=progress, **arguments)


class StopError(Exception):
    pass


def stop_after(progress, saves):
    """The training ends like a killed one, right after so many checkpoints."""
    save = progress.save
    left = [saves]

    def save_and_stop(model):
        save(model)
        left[0] -= 1
        if not left[0]:
            raise StopError

    progress.save = save_and_stop
    return progress


def continued(folder, identity=None):
    progress = Progress(folder, identity=identity)
    progress.resume()
    return progress


def assert_same(model, history, expected, expected_history):
    assert history == expected_history
    for ours, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("policy", "arguments", "numbers"),
    [
        ("float32", {}, (1, 2, 6)),
        ("mixed_float16", {"weight_decay": 1e-3}, (3,)),
        ("float32", {"freeze_epochs": 1}, (1, 2, 3)),
    ],
)
def test_every_checkpoint_ends_with_the_same_weights(
    data_set, policy, arguments, numbers, dtype_policy, tmp_path
):
    dtype_policy(policy)
    expected = classifier()
    expected_history = fit(expected, data_set, **arguments)
    # Every second one is at the end of an epoch, the others are after four of its six steps.
    for saves in numbers[-1:] if keras.backend.backend() == "jax" else numbers:
        folder = tmp_path / str(saves)
        folder.mkdir()
        with pytest.raises(StopError):
            fit(classifier(), data_set, stop_after(Progress(folder, every=4), saves), **arguments)
        progress = continued(folder)
        assert (progress.epoch, progress.step) == (saves // 2, 4 * (saves % 2))
        model = classifier()
        assert_same(model, fit(model, data_set, progress, **arguments), expected, expected_history)


def test_damaged_checkpoints_are_passed_over(data_set, tmp_path):
    expected = classifier()
    expected_history = fit(expected, data_set)
    with pytest.raises(StopError):
        fit(classifier(), data_set, stop_after(Progress(tmp_path, every=4), 3))
    _, newest = checkpoint_files(tmp_path)
    content = newest.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"x" * len(content), content[:-100]):
        newest.write_bytes(damaged)
        progress = continued(tmp_path)
        assert len(progress.damaged) == 1
        assert list(progress.damaged) == [newest]
        assert newest.with_suffix(".damaged").read_bytes() == damaged
        assert (progress.epoch, progress.step) == (1, 0)
    # A byte changed in an array.
    middle = content.index(b"NUMPY") + 150
    newest.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert "CRC" in continued(tmp_path).damaged[newest]
    model = classifier()
    assert_same(model, fit(model, data_set, continued(tmp_path)), expected, expected_history)
    for path in checkpoint_files(tmp_path):
        path.write_bytes(b"none")
    progress = continued(tmp_path)
    assert len(progress.damaged) == 2
    assert (progress.epoch, progress.step) == (0, 0)
    # The damaged ones, of later steps, do not push out those of the new training.
    with pytest.raises(StopError):
        fit(classifier(), data_set, stop_after(progress, 1))
    assert continued(tmp_path).epoch == 1


def test_code_in_a_checkpoint_is_not_run(data_set, tmp_path):
    with pytest.raises(StopError):
        fit(classifier(), data_set, stop_after(Progress(tmp_path), 1))
    (path,) = checkpoint_files(tmp_path)
    np.savez(path, state=np.array([StopError], dtype=object))
    assert "allow_pickle" in continued(tmp_path).damaged[path]


def test_other_arguments_and_models_are_refused(data_set, tmp_path):
    identity = {"arguments": {"epochs": 3}, "data": {"digest": "a"}}
    with pytest.raises(StopError):
        fit(classifier(), data_set, stop_after(Progress(tmp_path, identity=identity), 1))
    continued(tmp_path, identity)
    for part, name, value in (("arguments", "epochs", 4), ("data", "digest", "b")):
        other = {**identity, part: {name: value}}
        with pytest.raises(ValueError, match=rf"{name} was .*Received: {name}={value!r}"):
            continued(tmp_path, other)
    with pytest.raises(TrainingError, match="of another model"):
        fit(classifier(units=3), data_set, continued(tmp_path, identity))


def test_full_disk_leaves_the_last_checkpoint(data_set, tmp_path, monkeypatch):
    expected = classifier()
    expected_history = fit(expected, data_set)
    savez, calls = np.savez, []

    def fill(file, **arrays):
        calls.append(1)
        if len(calls) < 3:
            return savez(file, **arrays)
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.np, "savez", fill)
    with pytest.raises(OSError, match="No space left on device"):
        fit(classifier(), data_set, Progress(tmp_path, every=4))
    monkeypatch.undo()
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"] * 2
    model = classifier()
    assert_same(model, fit(model, data_set, continued(tmp_path)), expected, expected_history)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, number, times=1):
        super().__init__()
        self.number, self.times = number, times

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


@pytest.fixture
def interruptible():
    """SIGINT as in a terminal: a shell starts what it runs in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_training_after_the_step(data_set, tmp_path, monkeypatch, number):
    expected = classifier()
    expected_history = fit(expected, data_set)
    before = signal.getsignal(number)
    progress = Progress(tmp_path)
    train = progress.fit
    monkeypatch.setattr(
        progress,
        "fit",
        lambda *arguments, **more: train(*arguments, callbacks=[Interrupt(number)], **more),
    )
    with pytest.raises(TrainingStopped, match=r"after 0 epochs and 3 steps.*--resume") as error:
        fit(classifier(), data_set, progress)
    assert error.value.signal == number
    assert signal.getsignal(number) == before
    progress = continued(tmp_path)
    assert (progress.epoch, progress.step) == (0, 3)
    model = classifier()
    assert_same(model, fit(model, data_set, progress), expected, expected_history)


@pytest.mark.usefixtures("interruptible")
def test_second_signal_ends_it_at_once(data_set, tmp_path, monkeypatch):
    progress = Progress(tmp_path)
    train = progress.fit
    monkeypatch.setattr(
        progress,
        "fit",
        lambda *arguments, **more: train(
            *arguments, callbacks=[Interrupt(signal.SIGINT, times=2)], **more
        ),
    )
    with pytest.raises(KeyboardInterrupt) as error:
        fit(classifier(), data_set, progress)
    assert not isinstance(error.value, TrainingStopped)
    assert not checkpoint_files(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough")
def test_killed_trainings_end_with_the_same_weights(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tests.training.killed", str(tmp_path), "2"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    result = json.loads(process.stdout.splitlines()[-1])
    assert sum(result["kills"].values()) == 2
    assert result["alike"] == result["ended"] >= 1
