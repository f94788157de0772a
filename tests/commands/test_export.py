import shutil
import sys

import numpy as np
import pytest

from keras_cbam.classification import export
from keras_cbam.cli import main
from keras_cbam.serving.runtimes import load_artefact
from tests.command_line import fails
from tests.serving.models import SIZE, classifier, pictures

pytestmark = pytest.mark.usefixtures("short_turns")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    classifier("mixed_float16", classes=10).save(path)
    return path


def test_export(model, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    output = tmp_path / "model.tflite"
    command = ["export", str(model), "--format=litert", "--quantize=int8", f"--output={output}"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert f"{output}: litert, quantization int8, pixels ({SIZE}, {SIZE}, 3) to prob" in text
    assert "Compared on 256 test pictures of fashion_mnist_7k:" in text
    rows = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert rows.count("ms") == 2
    assert {"size,", "top-1", "same", "largest"} <= set(rows)
    *_, use = text.partition("Use it:\n")
    names = {"pixels": pictures(3)}
    # The converter's runtime is TensorFlow's, this is the one of the artefact.
    exec("\n".join(line.strip() for line in use.strip().splitlines()), names)
    assert names["probabilities"].shape == (3, 10)
    predict = load_artefact("litert", output)
    np.testing.assert_allclose(
        names["probabilities"], predict(pictures(3).astype("float32")), atol=1e-6
    )
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "exists already. Choose another --output, or pass --overwrite" in error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format=pb"], 2, "invalid choice: 'pb'"),
        (["--format=saved_model", "--quantize=int8"], 2, "one of none for the format saved_model"),
        (["--format=onnx"], 2, "must end in .onnx"),
        (["--format=saved_model", "--data=nowhere"], 1, "no such file or folder as 'nowhere'"),
    ],
)
def test_errors_are_one_sentence(model, tmp_path, capsys, arguments, code, message):
    command = [str(model), f"--output={tmp_path / 'out'}", *arguments]
    assert message in fails(capsys, code, *command, command="export")
    assert not list(tmp_path.iterdir())


def test_a_missing_library(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    command = ["export", str(model), "--format=onnx", f"--output={tmp_path / 'a.onnx'}"]
    assert main(command) == 1
    assert "pip install keras_cbam[onnx]" in capsys.readouterr().err


def test_a_failed_check(model, tmp_path, capsys, monkeypatch):
    def convert(*arguments):
        shutil.copy(model, arguments[2])

    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(export, "convert", convert)
    output = tmp_path / "model.tflite"
    assert main(["export", str(model), "--format=litert", f"--output={output}"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be used by its own runtime" in line
    assert output.exists()
