import os

import pytest

from keras_cbam.serving.artefact_files import (
    beside,
    put_in_place,
    refuse_to_lose_artefact,
    size_in_bytes,
)


def saved_model(folder, content="model"):
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(content)
    return folder


@pytest.mark.parametrize("file_format", ["onnx", "saved_model"])
def test_an_earlier_artefact_is_replaced_on_request(tmp_path, file_format):
    output = tmp_path / "a"
    refuse_to_lose_artefact(file_format, output, overwrite=False)
    if file_format == "onnx":
        output.write_text("model")
    else:
        saved_model(output)
    with pytest.raises(FileExistsError, match=r"a' exists already\. .* pass --overwrite"):
        refuse_to_lose_artefact(file_format, output, overwrite=False)
    refuse_to_lose_artefact(file_format, output, overwrite=True)


@pytest.mark.parametrize(
    ("file_format", "make"),
    [
        ("onnx", lambda path: path.mkdir()),
        ("saved_model", lambda path: path.write_text("thesis")),
        ("saved_model", lambda path: (saved_model(path) / "thesis.tex").touch()),
    ],
)
def test_nothing_else_is_replaced(tmp_path, file_format, make):
    make(tmp_path / "a")
    with pytest.raises(FileExistsError, match=f"exists already and is not a {file_format} art"):
        refuse_to_lose_artefact(file_format, tmp_path / "a", overwrite=True)


def test_a_mount_point(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(FileExistsError, match="is a mount point, which cannot be replaced"):
        refuse_to_lose_artefact("saved_model", tmp_path, overwrite=True)


def test_beside_leaves_nothing(tmp_path):
    with beside(tmp_path / "deep" / "a") as path:
        assert path.parent.parent == tmp_path
        path.write_text("half")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file', which is a file"):
        beside(tmp_path / "file" / "a").__enter__()


@pytest.mark.parametrize("earlier", ["nothing", "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_put_in_place(tmp_path, earlier, new):
    output = tmp_path / "deep" / "a"
    if earlier != "nothing":
        output.parent.mkdir()
        output.write_text("old") if earlier == "file" else saved_model(output, "old")
    with beside(output) as path:
        path.write_text("model") if new == "file" else saved_model(path)
        put_in_place(path, output)
    assert (output if new == "file" else output / "saved_model.pb").read_text() == "model"
    assert size_in_bytes(output) == 5
    assert [path.name for path in output.parent.iterdir()] == ["a"]


def test_a_move_that_fails_gives_the_earlier_one_back(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    output = saved_model(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"), beside(output) as path:
        put_in_place(saved_model(path), output)
    assert (output / "saved_model.pb").read_text() == "old"
