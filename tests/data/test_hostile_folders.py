"""Folders that mean harm, by the command: what lies in them, and what they are called."""

import json
import os
import signal
import socket
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam.classification.evaluate import load_classifier
from keras_cbam.cli import main
from keras_cbam.data.image_files import check_headers
from keras_cbam.data.load import load_data
from keras_cbam.errors import DataError, ModelError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pipes, and names of bytes")

ODD_NAMES = (
    *(b"-rf", b"--help", b"%s%n", b"{0}{x.__class__}", b"a b ", b"..a", b"a..", b"~", b"$HOME"),
    *(b"line\nend\r", b"\xff\xfe", b"\x1b[2J", b"<script>alert(1)</script>".replace(b"/", b"")),
    *("日本'\"".encode(), "\u202egnp".encode(), b"x" * 255, b"a\\b", b"*?[", b"&amp;", b"'\"`;|"),
)


@pytest.fixture(autouse=True)
def no_hang():
    """A test that waits for a pipe ends as a failure."""

    def stop(*_):
        raise TimeoutError("The test hangs.")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.bmp"
    Image.new("RGB", (2, 2), "red").save(path)
    return path


@pytest.fixture
def folder(tmp_path, image):
    for name in ("cat", "dog"):
        fill(tmp_path / "data" / name, image)
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(2, 3)(inputs)
    outputs = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def fill(folder, image, count=2):
    os.makedirs(folder)
    for index in range(count):
        os.link(image, os.path.join(folder, type(folder)(f"{index}.bmp")))


def command(capsys, *arguments):
    """Exit status, printed text, and the error, which is at most a line."""
    try:
        status = main([os.fsdecode(argument) for argument in arguments])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    # What a terminal and a log in UTF-8 can take.
    (captured.out + captured.err).encode()
    assert len(captured.err.splitlines()) <= 1
    assert captured.err.strip().isprintable()
    return status, captured.out, captured.err


def test_odd_class_names(folder, image, model, capsys):
    for name in ODD_NAMES:
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(path)
        for file in (b"0.bmp", b"1.bmp"):
            os.link(image, os.path.join(path, file))
        os.link(image, os.path.join(path, name[:200] + b".txt"))
    data = load_data(folder, 32)
    # One of the names is that of a hidden folder.
    assert len(data.class_names) == len(set(data.class_names)) == len(ODD_NAMES) + 1
    assert all(name.isprintable() for name in data.class_names)
    assert data.skipped == []
    status, _, error = command(capsys, "evaluate", model, "--data", folder)
    assert status == 1
    assert f"received 2 of the model and {len(ODD_NAMES) + 1} of the data" in error


# What is no file


def special_files(folder):
    """A pipe, a socket, a device and links to such, all named as images."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(folder)
        server.bind("socket.png")
        os.chdir(before)
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "stdin.png").symlink_to("/dev/stdin")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "memory.png").symlink_to("/proc/self/mem")
    (folder / "folder.png").mkdir()
    return sorted(folder.glob("*.png"))


def test_special_files_as_anything(folder, model, tmp_path, capsys):
    paths = special_files(tmp_path)
    assert all(check_headers(list(map(str, paths))))
    for path in paths:
        renamed = path.rename(path.with_suffix(".keras"))
        with pytest.raises(ModelError, match=r"no such model|is not a (Keras|trained) model"):
            load_classifier(renamed)
        renamed = renamed.rename(path.with_suffix(".npz"))
        with pytest.raises(DataError):
            load_data(renamed, 32)
        output = tmp_path / "output"
        status, _, error = command(capsys, "explain", model, renamed, f"--output={output}")
        assert (status, output.exists()) == (1, False)
        assert "None of the images can be read" in error or "There is no image in" in error
        assert command(capsys, "convert", renamed, f"--to={tmp_path / 'to.keras'}")[0] == 1
        arguments = (f"--weights={renamed}", f"--output={output}")
        assert command(capsys, "train", *arguments)[0] in (1, 2)


# What the command writes


REPORTS = [
    b"[" * 10**5,
    b'{"data": {"class_names": [1, {}]}}',
    b'{"data": {"class_names": "ab"}}',
    b'{"data": {"class_names": [null, null]}}',
    b'{"data": []}',
    b"\xff",
    b"",
    b'{"data": {"class_names": ["\\ud800\\u0000\\u001b[2J", "<script>$title\\n"]}}',
]


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_a_hostile_report(report, model, tmp_path, image, capsys):
    pytest.importorskip("matplotlib")
    model.with_name("report.json").write_bytes(report)
    output = tmp_path / "output"
    status, out, _ = command(capsys, "explain", model, image, f"--output={output}")
    assert status == 0
    assert out.replace("\n", "").isprintable()
    assert "<script>" not in (output / "index.html").read_text()


def test_links_in_the_output_folder(model, tmp_path, image, capsys):
    pytest.importorskip("matplotlib")
    output = tmp_path / "output"
    output.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (output / "image_explained.png").symlink_to(victim)
    (output / "index.html").symlink_to(tmp_path / "new")
    arguments = ("explain", model, image, f"--output={output}")
    assert command(capsys, *arguments)[0] == 2
    assert command(capsys, *arguments, "--overwrite")[0] == 0
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    assert (output / "index.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_names_of_images_stay_in_the_output_folder(model, tmp_path, image, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "images"
    folder.mkdir()
    paths = []
    for name in ODD_NAMES:
        paths.append(os.path.join(os.fsencode(folder), name[:250] + b".bmp"))
        os.link(image, paths[-1])
    before = sorted(tmp_path.rglob("*"))
    status, out, _ = command(capsys, "explain", model, *paths, f"--output={tmp_path / 'output'}")
    assert status == 0
    assert out.replace("\n", "").isprintable()
    written = [path for path in tmp_path.rglob("*") if path not in before]
    assert len(written) == len(ODD_NAMES) + 2
    assert all(path.is_relative_to(tmp_path / "output") for path in written)
    page = (tmp_path / "output" / "index.html").read_text()
    assert "<script>" not in page
    assert json.dumps(page)
    assert np.all([name.isprintable() for name in page.splitlines()])
