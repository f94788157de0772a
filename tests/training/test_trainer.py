import contextlib
import csv
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam.errors import DivergenceError, TrainingError, TrainingStopped
from keras_cbam.training import check, trainer
from keras_cbam.training.checkpoints import checkpoint_files
from keras_cbam.training.progress import FEW_STEPS, Progress, announce
from keras_cbam.training.task import Phase
from tests.training.toy_task import (
    ToyArguments,
    ToyTask,
    assert_alike,
    check_in_this_process,
    stop_after,
    train_toy,
)


def test_what_a_run_writes(finished):
    folder = finished.output
    report = json.loads((folder / "report.json").read_text())
    assert report == finished.report
    assert (report["task"], report["problems"]) == ("toy", {})
    assert report["data"]["class_names"] == ["dark", "light"]
    assert report["arguments"]["epochs"] == 3
    assert report["largest_difference_after_reload"] == {"model.keras": {"probabilities": 0.0}}
    assert report["seconds"]["total"] >= report["seconds"]["training"] > 0
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["val_loss"]) for row in rows] == finished.history["val_loss"]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".lock", "arguments.json", "best.weights.h5", "checkpoints", "figure.png", "history.csv"),
        *("model.keras", "report.json"),
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def validation_loss(run, task=ToyTask):
    validation = task(ToyArguments()).batches(run.data, "validation")
    return run.model.evaluate(validation, verbose=0)[0]


def test_best_weights_are_of_the_lowest_validation_loss(finished):
    last = finished.model.get_weights()
    finished.model.load_weights(finished.output / "best.weights.h5")
    assert validation_loss(finished) == pytest.approx(min(finished.history["val_loss"]), rel=1e-5)
    finished.model.set_weights(last)


def test_stopped_and_resumed_is_the_undisturbed_run(finished, tmp_path, monkeypatch):
    """Stopped in the first epoch, at its end, and in the second."""
    given = {"output": tmp_path / "run"}
    for steps, place in ((1, "0 epochs and 1 steps"), (5, "1 epochs and 0"), (3, "1 epochs and 3")):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(TrainingStopped, match=f"SIGINT after {place}.*--resume"):
                train_toy(**given)
        given = {"resume": tmp_path / "run"}
    assert not (tmp_path / "run" / "model.keras").exists()
    assert_alike(train_toy(**given), finished)


@pytest.mark.slow
def test_resumed_with_other_arguments(tmp_path, monkeypatch):
    given = {"epochs": 2, "precision": "mixed_float16", "first_phase": 1, "seed": 5}
    whole = train_toy(**given)
    with monkeypatch.context() as patch:
        stop_after(patch, 9, signal.SIGTERM)
        with pytest.raises(TrainingStopped, match="SIGTERM"):
            train_toy(output=tmp_path / "run", checkpoint_steps=2, **given)
    assert_alike(train_toy(resume=tmp_path / "run"), whole)


def test_epochs_may_be_raised(finished, tmp_path):
    shorter = train_toy(output=tmp_path / "run", epochs=1)
    assert len(shorter.history["loss"]) == 1
    assert_alike(train_toy(resume=tmp_path / "run", epochs=3), finished)
    with pytest.raises(ValueError, match="raised when a run is resumed, not lowered: they were 3"):
        train_toy(resume=tmp_path / "run", epochs=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": 0.2}, r"`learning_rate` was 0\.1"),
        ({"seed": 1}, "`seed` was 0"),
        ({"precision": "mixed_float16"}, "`precision` was 'float32'"),
    ],
)
def test_resumed_with_its_own_arguments_only(finished, given, message):
    with pytest.raises(ValueError, match=message):
        train_toy(resume=finished.output, **given)


def test_nothing_to_resume(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "gone"):
        with pytest.raises(TrainingError, match="no run of toy to resume"):
            train_toy(resume=tmp_path / name)


def test_killed_before_the_first_checkpoint(finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(finished.output / "arguments.json", folder)
    with pytest.warns(UserWarning, match="no checkpoint to resume"):
        run = train_toy(resume=folder)
    assert_alike(run, finished)


def test_resumed_on_other_data(finished, tmp_path):
    folder = shutil.copytree(finished.output, tmp_path / "run")
    told = json.loads((folder / "arguments.json").read_text())
    told["arguments"]["images"] = 40
    (folder / "arguments.json").write_text(json.dumps(told))
    with pytest.raises(TrainingError, match="its digest of the data was '44', received '40'"):
        train_toy(resume=folder)


def test_a_damaged_checkpoint_is_skipped(finished, tmp_path):
    folder = shutil.copytree(finished.output, tmp_path / "run")
    last = checkpoint_files(folder / "checkpoints")[-1]
    last.write_bytes(last.read_bytes()[:100])
    with pytest.warns(UserWarning, match="A damaged checkpoint is skipped"):
        run = train_toy(resume=folder)
    assert_alike(run, finished)


class Failing(ToyTask):
    """A task of which one part fails: `failing` names it."""

    failing = ""

    def measure(self, *arguments):
        if self.failing == "measuring":
            raise ValueError("no numbers")
        return super().measure(*arguments)

    def artefacts(self, *arguments):
        def broken(path):
            path.write_text("half")
            if self.failing == "broken.png":
                raise ValueError("no ink")

        return {"broken.png": broken, **super().artefacts(*arguments)}


def find_another(*_):
    raise TrainingError("another one")


@pytest.mark.parametrize(
    ("failing", "sentence"),
    [
        ("measuring", "no numbers."),
        ("broken.png", "no ink."),
        ("check", "in a fresh process: The reloaded model.keras predicts otherwise: another one."),
    ],
)
def test_what_fails_after_the_training_costs_nothing(
    finished, tmp_path, monkeypatch, failing, sentence
):
    monkeypatch.setattr(Failing, "failing", failing)
    with monkeypatch.context() as patch:
        if failing == "check":
            patch.setattr(trainer, "check_reloaded", check.check_reloaded)
            patch.setattr(check, "run_module", check_in_this_process)
            patch.setattr(Failing, "compare", staticmethod(find_another))
        with pytest.warns(UserWarning, match=f"trained and saved, but {failing} failed"):
            run = train_toy(Failing, output=tmp_path / "run")
    written = json.loads((run.output / "report.json").read_text())
    assert written["problems"] == {failing: sentence}
    model = keras.models.load_model(run.output / "model.keras")
    for ours, theirs in zip(model.get_weights(), finished.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not (run.output / "broken.png").exists() or failing != "broken.png"
    # What failed is done again.
    monkeypatch.setattr(Failing, "failing", "")
    again = train_toy(Failing, resume=run.output)
    assert again.report["problems"] == {}
    assert (run.output / "broken.png").read_text() == "half"


def test_without_an_output_a_failure_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(Failing, "failing", "measuring")
    with pytest.raises(ValueError, match="no numbers"):
        train_toy(Failing, epochs=1, verbose=0)
    assert not capsys.readouterr().out


def test_divergence_stops_at_its_step_and_keeps_checkpoints(tmp_path):
    class Diverging(ToyTask):
        def batches(self, data, part, epoch=0, *given, **more):
            batches = super().batches(data, part, epoch, *given, **more)
            factor = np.float32("nan" if epoch == 1 else 1)
            return batches.map(lambda images, labels: (factor * _float(images), labels))

    with pytest.raises(DivergenceError, match=r"in epoch 2, step 1: .*kept: .*step-0000000006"):
        train_toy(Diverging, output=tmp_path / "run")
    assert len(checkpoint_files(tmp_path / "run" / "checkpoints")) == 1
    assert (tmp_path / "run" / "history.csv").exists()


def _float(images):
    import tensorflow as tf

    return tf.cast(images, "float32")


class Overfitting(ToyTask):
    """The more it learns, the worse is it on the validation images."""

    def batches(self, data, part, *given, **more):
        batches = super().batches(data, part, *given, **more)
        if part == "validation":
            batches = batches.map(lambda images, labels: (images, 1 - labels))
        return batches


def test_early_stopping_takes_the_best_weights(tmp_path, monkeypatch):
    given = {"epochs": 40, "early_stopping": 2, "images": 24}
    run = train_toy(Overfitting, output=tmp_path / "whole", **given)
    losses = run.history["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    assert losses[-1] > 1.05 * losses[best]
    assert validation_loss(run, Overfitting) == pytest.approx(losses[best], rel=1e-5)
    # Stopped in the epoch after the best one, it is known which that was.
    with monkeypatch.context() as patch:
        stop_after(patch, 3 * (best + 1) + 1)
        with pytest.raises(TrainingStopped, match=f"after {best + 1} epochs and 1 steps"):
            train_toy(Overfitting, output=tmp_path / "run", **given)
    assert_alike(train_toy(Overfitting, resume=tmp_path / "run"), run)


def test_patience_counts_in_the_last_phase_only(tmp_path):
    given = {"epochs": 8, "first_phase": 4, "early_stopping": 1, "images": 24, "seed": 1}
    losses = train_toy(Overfitting, output=tmp_path / "run", **given).history["val_loss"]
    assert int(np.argmin(losses)) == 0
    assert len(losses) == 4 + 2


def test_what_is_printed(capsys):
    train_toy(epochs=2, verbose="auto")
    printed = capsys.readouterr().out
    few, first = printed.splitlines()[:2]
    assert few.startswith("The training has only ")
    assert first.startswith("Compiling the first step: ")
    assert [line for line in printed.splitlines() if line.startswith("Epoch")] == [
        "Epoch 1/2",
        "Epoch 2/2",
    ]
    # No bar that is drawn anew.
    assert not set("\b\r") & set(printed)


def test_what_the_task_finds_after_an_epoch_is_in_the_history(tmp_path):
    run = train_toy(epochs=2, output=tmp_path / "run")
    found = run.history["val_mean_of_weights"]
    assert len(found) == 2
    assert found[-1] == float(np.mean(run.model.get_weights()[0]))
    header = (tmp_path / "run" / "history.csv").read_text().splitlines()[0]
    assert "val_mean_of_weights" in header


def test_a_training_of_enough_steps_is_not_called_short(capsys):
    normalized = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    announce(FEW_STEPS, normalized)
    announce(1, keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))
    assert "only" not in capsys.readouterr().out
    announce(1, normalized)
    assert "only 1 steps" in capsys.readouterr().out


class FrozenToyTask(ToyTask):
    """As fine-tuning: each phase trains with its batch normalization fixed."""

    def phases(self, model, steps):
        @contextlib.contextmanager
        def frozen(compiled):
            normalization = model.layers[3]
            normalization.trainable = False
            with compiled():
                yield
            normalization.trainable = True

        return [
            Phase(phase.epochs, functools.partial(frozen, phase.compiled))
            for phase in super().phases(model, steps)
        ]


def test_normalization_that_a_phase_freezes_needs_no_steps(capsys):
    for task in (ToyTask, FrozenToyTask):
        train_toy(task, epochs=2, first_phase=1, images=8, verbose=2)
        out = capsys.readouterr().out
        assert out.count("Compiling the first step") == 1
        assert ("has only 2 steps" in out) == (task is ToyTask)


def test_a_number_that_earlier_epochs_have_not_stands_in_its_own_row():
    progress = Progress(ToyArguments.given())
    progress.epoch, progress.history = 2, {"loss": [3.0, 2.0], "gone": [1.0, 1.0]}
    progress.on_epoch_end(2, {"loss": 1.0, "val_AP": 0.5})
    expected = {"loss": [3, 2, 1], "gone": [1, 1, np.nan], "val_AP": [np.nan, np.nan, 0.5]}
    np.testing.assert_equal(progress.history, expected)


def test_tensorboard(tmp_path):
    train_toy(output=tmp_path / "run", epochs=1, tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").rglob("events.out.*"))


def test_without_tensorboard_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install keras_cbam\[tensorboard\]"):
        train_toy(output=tmp_path / "run", tensorboard=True)
    assert not list(tmp_path.iterdir())


def test_everything_is_written_inside_the_output(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    # As a mount point, it can be neither moved nor removed.
    for name in ("replace", "rename"):
        own = getattr(os, name)

        def inside(source, target, own=own, **given):
            for path in map(pathlib.Path, (source, target)):
                assert folder in path.parents
            own(source, target, **given)

        monkeypatch.setattr(os, name, inside)
    run = train_toy(output=folder, epochs=1)
    train_toy(output=folder, epochs=1, overwrite=True)
    assert run.report["problems"] == {}


def test_a_mount_point(tmp_path):
    # It can be neither moved nor removed.
    command = ["mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        run = train_toy(output=tmp_path, epochs=1)
        assert run.report["problems"] == {}
        assert (tmp_path / "model.keras").exists()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_only_fit(finished):
    """Every training of the package goes through `Progress.fit`."""
    package = pathlib.Path(trainer.__file__).parents[1]
    calls = [path.name for path in package.rglob("*.py") if "model.fit(\n" in path.read_text()]
    assert calls == ["progress.py"]
