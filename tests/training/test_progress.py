import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam.errors import TrainingError, TrainingStopped
from keras_cbam.training import checkpoints
from keras_cbam.training.checkpoints import checkpoint_files, write_checkpoint
from keras_cbam.training.progress import Progress
from keras_cbam.training.run_folder import RunFolder
from tests.training.toy_task import ToyArguments, ToyTask, assert_alike, stop_after, train_toy

STEPS, EPOCHS = 6, 3


@pytest.fixture
def copied(finished, tmp_path):
    """The folder of a finished run, to be damaged."""
    return shutil.copytree(finished.output, tmp_path / "run")


def resumed(folder, **arguments):
    """The `Progress` of a run, at its last whole checkpoint."""
    task = ToyTask(ToyArguments())
    progress = Progress(task.arguments, RunFolder(folder, task), **arguments)
    progress.resume()
    return progress


def one_bit_changed(content):
    middle = content.index(b"NUMPY") + 150
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"", "No data left"),
        (lambda content: content[: len(content) // 2], ""),
        (lambda content: content[:-100], ""),
        (lambda content: b"x" * len(content), ""),
        (one_bit_changed, "CRC"),
    ],
)
def test_a_damaged_checkpoint_is_skipped(copied, damage, reason):
    last = checkpoint_files(copied / "checkpoints")[-1]
    damaged = damage(last.read_bytes())
    last.write_bytes(damaged)
    with pytest.warns(UserWarning, match=rf"A damaged checkpoint is skipped: {last}: .*{reason}"):
        progress = resumed(copied)
    assert (progress.epoch, progress.step) == (EPOCHS - 1, 0)
    assert last.with_suffix(".damaged").read_bytes() == damaged


def test_damaged_checkpoints_do_not_push_out_new_ones(finished, copied):
    for path in checkpoint_files(copied / "checkpoints"):
        path.write_bytes(b"none")
    with pytest.warns(UserWarning, match=r"damaged checkpoint|no checkpoint to resume") as warned:
        run = train_toy(resume=copied)
    assert sum("damaged checkpoint" in str(warning.message) for warning in warned) == 2
    assert_alike(run, finished)
    assert sorted(path.name for path in (copied / "checkpoints").iterdir()) == [
        f"step-00000000{name}" for name in ("12.damaged", "12.npz", "18.damaged", "18.npz")
    ]


def test_a_finished_run_is_saved_again_with_its_optimizer(finished, copied):
    run = train_toy(resume=copied)
    assert_alike(run, finished)
    states = [each.model.optimizer.variables for each in (run, finished)]
    for ours, theirs in zip(*states, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_code_in_a_checkpoint_is_not_run(copied):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(copied / "run by pickle"),)

    _, last = checkpoint_files(copied / "checkpoints")
    np.savez(last, state=np.array([Code()], dtype=object))
    with pytest.warns(UserWarning, match=r"skipped.*allow_pickle"):
        resumed(copied)
    assert not (copied / "run by pickle").exists()


@pytest.mark.parametrize("part", ["digest of the data", "number of devices"])
def test_another_identity_is_refused(copied, part):
    with pytest.raises(TrainingError, match=rf"its {part} was .*, received 'another'"):
        resumed(copied, identity={part: "another"})


def test_a_checkpoint_of_another_model_is_refused(copied, monkeypatch):
    def network(*_):
        inputs = keras.Input((16, 16, 3))
        x = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, keras.layers.Dense(2, "softmax")(x))

    monkeypatch.setattr(ToyTask, "build", network)
    with pytest.raises(TrainingError, match="of another model: its arrays have other shapes"):
        train_toy(resume=copied, epochs=4)


@pytest.mark.parametrize(
    ("checkpoint_steps", "expected"),
    [
        (None, [(1, 0), (2, 0)]),
        (4, [(0, 4), (1, 0), (1, 4), (2, 0)]),
        # The last step is saved with the validation that follows it.
        (3, [(0, 3), (1, 0), (1, 3), (2, 0)]),
    ],
)
def test_when_checkpoints_are_written(tmp_path, monkeypatch, checkpoint_steps, expected):
    written = []

    def write(folder, steps, state, arrays):
        assert folder == tmp_path / "run" / "checkpoints"
        assert steps == STEPS * state["epoch"] + state["step"]
        written.append((state["epoch"], state["step"]))
        write_checkpoint(folder, steps, state, arrays)

    monkeypatch.setattr("keras_cbam.training.progress.write_checkpoint", write)
    train_toy(output=tmp_path / "run", epochs=2, checkpoint_steps=checkpoint_steps)
    assert written == expected
    assert len(checkpoint_files(tmp_path / "run" / "checkpoints")) == 2


def test_a_full_disk_leaves_the_last_checkpoint(finished, tmp_path, monkeypatch):
    savez, calls = np.savez, []

    def fill(file, **arrays):
        calls.append(1)
        if len(calls) < 3:
            return savez(file, **arrays)
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.np, "savez", fill)
        with pytest.raises(OSError, match="No space left on device"):
            train_toy(output=folder, checkpoint_steps=4)
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["step-0000000004.npz", "step-0000000006.npz"]
    assert_alike(train_toy(resume=folder), finished)


def test_history_grows_with_the_epochs(finished, tmp_path, monkeypatch):
    stop_after(monkeypatch, STEPS + 2)
    with pytest.raises(TrainingStopped, match="after 1 epochs and 2 steps"):
        train_toy(output=tmp_path / "run")
    rows = (finished.output / "history.csv").read_text().splitlines()
    assert (tmp_path / "run" / "history.csv").read_text().splitlines() == rows[:2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(tmp_path, monkeypatch, number):
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stop_after(monkeypatch, 2, number, times=2)
        with pytest.raises(KeyboardInterrupt) as error:
            train_toy(output=tmp_path / "run")
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not isinstance(error.value, TrainingStopped)
    assert not checkpoint_files(tmp_path / "run" / "checkpoints")


def test_an_ignored_signal_stays_ignored(tmp_path, monkeypatch):
    # As of a job in the background of a script.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_after(monkeypatch, 2)
    assert len(train_toy(output=tmp_path / "run", epochs=1).history["loss"]) == 1
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough")
def test_killed_trainings_end_with_the_same_weights(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "tests.training.killed", "toy", str(tmp_path), "2"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    result = json.loads(process.stdout.splitlines()[-1])
    assert sum(result["kills"].values()) == 2
    assert result["alike"] == result["ended"] >= 1
