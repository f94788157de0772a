"""How the tests run the command."""

import pathlib
import sys
import types

from keras_cbam.cli import main
from keras_cbam.training.saved_run import SavedRun


def fails(capsys, code, *arguments, command="train"):
    """Runs the command; it must fail with this code and one sentence, which is returned."""
    try:
        status = main([command, *arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert status == code, captured.err
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("keras-cbam: error: ")
    assert captured.out == ""
    return lines[0]


def put_in_place(monkeypatch, task, verb, function):
    """Puts a function in the place of a verb of a task, of which every path is a run.

    Args:
        monkeypatch: the fixture.
        task: string, or `None` for a file alone.
        verb: string.
        function: what is called.
    """
    monkeypatch.setattr(
        "keras_cbam.training.saved_run.find_run",
        lambda path: SavedRun(pathlib.Path(path), task),
    )
    known = task or "classification"
    monkeypatch.setattr("keras_cbam.commands._task_of_file", lambda _: known)
    module = types.SimpleNamespace(**{f"{verb}_run": function})
    name = f"keras_cbam.{known}.{verb}"
    monkeypatch.setitem(sys.modules, name, module)
