import errno
import json
import os
import types

import keras
import pytest
import tensorflow as tf

from keras_cbam.errors import ExportError, TrainingError
from keras_cbam.training.run_folder import RunFolder, read_json, resumable
from tests.training.toy_task import ToyArguments

FIGURE = "figure.png"


def run_folder(path, task="toy", is_writing=True, **given):
    arguments = ToyArguments.given(None, output=path, **given)
    return RunFolder(
        path, types.SimpleNamespace(name=task, arguments=arguments, files=(FIGURE,)), is_writing
    )


def begin(folder):
    with folder:
        folder.begin(["dark", "light"])


def make_run(path, *files, task="toy", **given):
    """A run that has begun, with further files in it."""
    folder = run_folder(path, task, **given)
    begin(folder)
    for name in files:
        folder.save(name, lambda path: path.write_text("old"))
    return path


def names(path):
    return sorted(entry.name for entry in path.iterdir() if entry.name != ".lock")


def test_a_run_that_begins(tmp_path):
    path = tmp_path / "new" / "run"
    folder = run_folder(path, seed=5, resume=None)
    folder.check()
    assert not path.parent.exists()
    begin(folder)
    assert names(path) == ["arguments.json", "checkpoints"]
    told = json.loads((path / "arguments.json").read_text())
    assert (told["task"], told["arguments"]["seed"]) == ("toy", 5)
    assert told["arguments"]["output"] == str(path)


def test_no_output():
    folder = run_folder(None)
    folder.check()
    begin(folder)
    folder.write_history({"loss": [1.0]})
    assert not folder.is_writing
    assert folder.checkpoints is None


@pytest.mark.parametrize("allowed", [(), ("lost+found",), (".Trash", ".DS_Store"), (".partial",)])
def test_an_empty_folder_is_used(allowed, tmp_path):
    for name in allowed:
        (tmp_path / name).mkdir()
    run_folder(tmp_path).check()


@pytest.mark.parametrize("given", [{}, {"overwrite": True}, {"resume": "run"}])
def test_foreign_files_are_never_replaced(given, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"not of a run: thesis\.tex\. Choose another"):
        run_folder(tmp_path, **given).check()
    with pytest.raises(FileExistsError, match="is a file, not a folder"):
        run_folder(tmp_path / "thesis.tex", **given).check()


@pytest.mark.parametrize("given", [{}, {"overwrite": True}, {"resume": "run"}])
def test_a_run_of_another_task_is_never_replaced(given, tmp_path):
    make_run(tmp_path, task="detection")
    with pytest.raises(FileExistsError, match="holds a run of detection, which a run of toy does"):
        run_folder(tmp_path, **given).check()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "an unfinished run.*--overwrite to replace it or --resume to continue it"),
        (("model.keras",), r"already holds a run.*--overwrite to replace it\.$"),
    ],
)
def test_an_earlier_run_is_replaced_only_on_request(files, message, tmp_path):
    make_run(tmp_path, *files)
    with pytest.raises(FileExistsError, match=message):
        run_folder(tmp_path).check()
    for given in ({"overwrite": True}, {"resume": tmp_path}):
        run_folder(tmp_path, **given).check()


def test_overwrite_replaces_its_own_files_only(tmp_path):
    own = ("model.keras", "report.json", "history.csv", "best.weights.h5", FIGURE)
    make_run(tmp_path, *own)
    (tmp_path / "checkpoints" / "step-0000000001.npz").touch()
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / ".partial").mkdir()
    kept = ["exports", "lost+found", "notes.txt", "other.png"]
    for name in kept:
        (tmp_path / name).mkdir()
    folder = run_folder(tmp_path, overwrite=True, seed=3)
    folder.check()
    assert len(names(tmp_path)) == 13
    begin(folder)
    assert names(tmp_path) == sorted(["arguments.json", "checkpoints", *kept])
    assert not names(tmp_path / "checkpoints")
    assert read_json(tmp_path / "arguments.json")["arguments"]["seed"] == 3


def test_a_resumed_run_keeps_its_files(tmp_path):
    make_run(tmp_path, "model.keras", FIGURE)
    before = names(tmp_path)
    begin(run_folder(tmp_path, resume=tmp_path, epochs=9))
    assert names(tmp_path) == before
    assert read_json(tmp_path / "arguments.json")["arguments"]["epochs"] == 9


def test_results_are_removed_before_others_are_made(tmp_path):
    folder = run_folder(make_run(tmp_path, "model.keras", "report.json", "history.csv", FIGURE))
    folder.remove_results()
    assert names(tmp_path) == ["arguments.json", "checkpoints", "history.csv", "model.keras"]


def end_after(monkeypatch, calls):
    """Lets so many calls change the disk, and none thereafter."""
    left = [calls]

    def counted(own):
        def call(*given, **more):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return own(*given, **more)

        return call

    for name in ("replace", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def test_a_run_that_is_killed_as_it_begins_blocks_nothing(tmp_path, monkeypatch):
    for calls in range(20):
        path = make_run(tmp_path / str(calls), "model.keras", FIGURE)
        with monkeypatch.context() as patch:
            end_after(patch, calls)
            try:
                begin(run_folder(path, overwrite=True))
            except KeyboardInterrupt:
                pass
            else:
                break
        run_folder(path, overwrite=True).check()
    assert 5 < calls < 19


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    make_run(tmp_path / "link", FIGURE)
    make_run(tmp_path / "link", FIGURE, overwrite=True)
    assert (tmp_path / "disk" / FIGURE).exists()
    assert (tmp_path / "link").is_symlink()


def test_what_a_link_leads_to_is_not_removed(tmp_path):
    (tmp_path / "logs" / "precious").mkdir(parents=True)
    path = make_run(tmp_path / "run")
    (path / "tensorboard").symlink_to(tmp_path / "logs")
    make_run(path, overwrite=True)
    assert not (path / "tensorboard").exists()
    assert names(tmp_path / "logs") == ["precious"]


def test_other_processes_write_nothing(tmp_path):
    make_run(tmp_path / "run")
    for path in (tmp_path / "run", tmp_path / "new"):
        folder = run_folder(path, is_writing=False, overwrite=True)
        folder.check()
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        begin(folder)
        folder.write_history({"loss": [1.0]})
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        # They read the checkpoints.
        assert folder.checkpoints == path / "checkpoints"


def test_history(tmp_path):
    folder = run_folder(make_run(tmp_path))
    folder.write_history({})
    assert not (tmp_path / "history.csv").exists()
    folder.write_history({"loss": [0.1, 1e-30], "val_loss": [1.0, 2.0]})
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert rows == ["epoch,loss,val_loss", "1,0.1,1.0", "2,1e-30,2.0"]


def write_folder(path, text="new"):
    path.mkdir()
    (path / "part").write_text(text)


def test_a_saved_folder_replaces_the_earlier_one(tmp_path):
    folder = run_folder(make_run(tmp_path))
    folder.save("model", write_folder)
    (tmp_path / "model" / "old part").touch()
    folder.save("model", write_folder)
    assert names(tmp_path / "model") == ["part"]
    assert names(tmp_path) == ["arguments.json", "checkpoints", "model"]


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OSError, "Writing '.*' failed: .*space"),
        (RuntimeError("Can't write data (No space)"), OSError, "Writing '.*' failed: Can't write"),
        (
            tf.errors.ResourceExhaustedError(None, None, "full"),
            OSError,
            "Writing '.*' failed: full",
        ),
        (ExportError("no form for it"), ExportError, "^no form for it$"),
        (ValueError("a bad figure"), ValueError, "^a bad figure$"),
        (KeyboardInterrupt("now"), KeyboardInterrupt, "now"),
    ],
)
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_cannot_be_saved_leaves_what_was_there(tmp_path, error, expected, message, is_folder):
    folder = run_folder(make_run(tmp_path))
    whole = write_folder if is_folder else lambda path: path.write_text("old")
    folder.save("artefact", whole)
    before = sorted(tmp_path.rglob("*"))

    def fail(path):
        whole(path)
        raise error

    with pytest.raises(expected, match=message):
        folder.save("artefact", fail)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(expected, match=message):
        folder.save("new", fail)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_real_full_disk(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    folder = run_folder(make_run(tmp_path))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def write(path):
        path.symlink_to("/dev/full")
        model.save_weights(path)

    with pytest.raises(OSError, match=r"Writing '.*best\.weights\.h5' failed"):
        folder.save("best.weights.h5", write)
    assert names(tmp_path) == ["arguments.json", "checkpoints"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"a": 1}', {"a": 1}), ("[1]", {}), ("{", {}), ("", {}), ("[" * 10**5, {}), (None, {})],
)
def test_read_json(text, expected, tmp_path):
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    assert read_json(path) == expected


def test_read_json_that_is_no_text(tmp_path):
    (tmp_path / "report.json").write_bytes(b"\xff\xfe{")
    assert read_json(tmp_path / "report.json") == {}


def test_resumable(tmp_path):
    path = make_run(tmp_path / "run", seed=4, overwrite=True)
    moved = path.rename(tmp_path / "moved")
    found = resumable(moved, "toy")
    assert (found["seed"], found["output"], found["resume"]) == (4, str(moved), str(moved))
    with pytest.raises(TrainingError, match=r"no run of detection to resume in '.*moved'"):
        resumable(moved, "detection")
    with pytest.raises(TrainingError, match="no run of toy to resume"):
        resumable(path, "toy")


@pytest.mark.parametrize("told", [{"task": "toy"}, {"task": "toy", "arguments": 3}, [], "toy"])
def test_damaged_arguments_cannot_be_resumed(told, tmp_path):
    (tmp_path / "arguments.json").write_text(json.dumps(told))
    with pytest.raises(TrainingError, match="no run of toy to resume"):
        resumable(tmp_path, "toy")


def test_two_trainings_in_one_folder(tmp_path):
    with run_folder(tmp_path) as one:
        one.begin(["dark", "light"])
        with (
            run_folder(tmp_path, resume=tmp_path) as other,
            pytest.raises(FileExistsError, match="Another process is training in"),
        ):
            other.begin(["dark", "light"])
    begin(run_folder(tmp_path, resume=tmp_path))
