import errno

import keras
import numpy as np
import pytest

from keras_cbam import CBAM
from keras_cbam.errors import DivergenceError, TrainingError
from keras_cbam.training import run_folder as artefacts
from keras_cbam.training.checkpoints import KEYS, checkpoint_files, write_checkpoint
from keras_cbam.training.run_folder import (
    RunFolders,
    output_folder,
    put_in_place,
    verify,
    write_artefacts,
)

HISTORY = {"loss": [1.0, 0.5], "accuracy": [0.5, 0.75]}
SAMPLE = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype="uint8")


@pytest.fixture
def model():
    inputs = keras.Input((8, 8, 3), name="pixels")
    x = CBAM()(keras.layers.Conv2D(4, 3)(inputs / 255))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))


def test_folder_appears_whole_or_not_at_all(tmp_path):
    output = tmp_path / "new" / "run"
    with pytest.raises(FileNotFoundError), output_folder(output) as folders:
        (folders.artefacts / "missing" / "report.json").write_text("{}")
    assert not list(tmp_path.iterdir())
    with output_folder(output) as folders:
        (folders.artefacts / "report.json").write_text("{}")
        assert not output.exists()
    assert [path.name for path in output.parent.iterdir()] == ["run"]
    assert (output / "report.json").read_text() == "{}"


def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with output_folder(tmp_path / "link") as folders:
        (folders.artefacts / "report.json").touch()
    assert (tmp_path / "disk" / "report.json").exists()
    assert (tmp_path / "link").is_symlink()


def test_empty_folder_is_used(tmp_path):
    with output_folder(tmp_path / "run") as folders:
        (tmp_path / "run").mkdir()
        (folders.artefacts / "report.json").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.json"]


def test_earlier_run_is_replaced_only_on_request(tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "report.json").write_text("old")
    with pytest.raises(FileExistsError, match="already holds a run"), output_folder(output):
        pass
    with pytest.raises(KeyError), output_folder(output, overwrite=True):
        raise KeyError
    assert (output / "report.json").read_text() == "old"
    with output_folder(output, overwrite=True) as folders:
        (folders.artefacts / "report.json").write_text("new")
    assert (output / "report.json").read_text() == "new"


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_are_never_replaced(overwrite, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"not of a run: thesis\.tex"):  # noqa: SIM117
        with output_folder(tmp_path, overwrite=overwrite):
            pass
    with pytest.raises(FileExistsError, match="is a file"):  # noqa: SIM117
        with output_folder(tmp_path / "thesis.tex", overwrite=overwrite):
            pass
    assert (tmp_path / "thesis.tex").exists()


def test_no_output():
    with output_folder(None) as folders:
        assert folders == RunFolders(None, None)


def leave_unfinished(output, error=KeyError, **arguments):
    """A run that ends with an error after a checkpoint."""
    with pytest.raises(error), output_folder(output, **arguments) as folders:  # noqa: PT012
        (folders.artefacts / "model.keras").touch()
        write_checkpoint(folders.checkpoints, 1, dict.fromkeys(KEYS, 0), [])
        raise error
    return output.with_name(f"{output.name}.unfinished")


def test_unfinished_run_stays_until_it_is_finished(tmp_path):
    output = tmp_path / "new" / "run"
    unfinished = leave_unfinished(output)
    assert [path.name for path in unfinished.iterdir()] == ["checkpoints"]
    with pytest.raises(FileExistsError, match="an unfinished run, which --resume continues"):  # noqa: SIM117
        with output_folder(output):
            pass
    with output_folder(output, resume=True) as folders:
        assert len(checkpoint_files(folders.checkpoints)) == 1
        (folders.artefacts / "report.json").touch()
    assert [path.name for path in output.parent.iterdir()] == ["run"]
    assert [path.name for path in output.iterdir()] == ["report.json"]


def test_unfinished_run_is_begun_anew_on_request(tmp_path):
    leave_unfinished(tmp_path / "run")
    with output_folder(tmp_path / "run", overwrite=True) as folders:
        assert not checkpoint_files(folders.checkpoints)


def test_earlier_checkpoints_stay_until_there_are_new_ones(tmp_path):
    unfinished = leave_unfinished(tmp_path / "run")
    before = checkpoint_files(unfinished / "checkpoints")[0].read_bytes()
    with pytest.raises(KeyError), output_folder(tmp_path / "run", overwrite=True):
        raise KeyError
    assert checkpoint_files(unfinished / "checkpoints")[0].read_bytes() == before
    assert [path.name for path in unfinished.iterdir()] == ["checkpoints"]


@pytest.mark.parametrize("arguments", [{}, {"overwrite": True}, {"resume": True}])
def test_foreign_files_where_an_unfinished_run_would_be(arguments, tmp_path):
    (tmp_path / "thesis.unfinished").mkdir()
    (tmp_path / "thesis.unfinished" / "chapter.tex").touch()
    (tmp_path / "run.unfinished").touch()
    for name, foreign in (("thesis", r"chapter\.tex"), ("run", "a file")):
        with pytest.raises(FileExistsError, match=f"not of a run: {foreign}"):  # noqa: SIM117
            with output_folder(tmp_path / name, **arguments):
                pass
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_move_that_fails_leaves_what_was_there(tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "missing", output, tmp_path / "aside")
    assert list(tmp_path.iterdir()) == [output]


def test_diverged_run_leaves_nothing(tmp_path):
    leave_unfinished(tmp_path / "new" / "run", DivergenceError)
    assert not list(tmp_path.iterdir())


def test_other_processes_write_nothing(tmp_path):
    with output_folder(tmp_path / "run", is_main=False) as folders:
        assert folders == RunFolders(None, None)
    unfinished = leave_unfinished(tmp_path / "run")
    with output_folder(tmp_path / "run", resume=True, is_main=False) as folders:
        assert folders == RunFolders(None, unfinished / "checkpoints")
    assert unfinished.exists()


def test_written_models_predict_the_same(model, tmp_path):
    differences = write_artefacts(tmp_path, model, HISTORY, SAMPLE)
    assert differences.keys() == {"model.keras", "saved_model"}
    assert max(differences.values()) <= 1e-6


def test_other_predictions_are_found(model, tmp_path):
    write_artefacts(tmp_path, model, HISTORY, SAMPLE)
    for weight in model.weights:
        weight.assign(weight + 1)
    with pytest.raises(TrainingError, match=r"reloaded model\.keras predicts otherwise"):
        verify(tmp_path, model, SAMPLE)
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises(TrainingError, match="cannot be loaded in a fresh process"):
        verify(tmp_path, model, SAMPLE)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left")]
)
def test_full_disk(model, tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(artefacts, "write_saved_model", fail)
    with pytest.raises(OSError, match="No space left"):
        write_artefacts(tmp_path, model, HISTORY, SAMPLE)
