import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from keras_cbam.classification import export
from keras_cbam.classification.export import export_classifier
from keras_cbam.errors import ExportError, ModelError
from keras_cbam.serving import conversion as fresh_process
from tests.serving.models import classifier

pytestmark = pytest.mark.usefixtures("short_turns")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of ten classes, its model of float32, and files of other models."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    folder = tmp_path_factory.mktemp("run")
    classifier(classes=10).save(folder / "model.keras")
    classifier(activation=None, classes=7).save(folder / "logits.keras")
    (folder / "report.json").write_text(json.dumps({"arguments": {"seed": 3}}))
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    return export_classifier(folder, "onnx", folder / "new" / "model.onnx", samples=40)


def test_comparison(exported, folder):
    assert exported.output == folder / "new" / "model.onnx"
    assert exported.output.stat().st_size == exported.size[1]
    assert (folder / "model.keras").stat().st_size == exported.size[0]
    assert exported.activation is None
    assert (exported.data, exported.pictures) == ("fashion_mnist_7k", 40)
    assert exported.input_shape == (16, 16, 3)
    assert 0 <= exported.largest_difference <= 1e-4
    assert exported.agreement == 1
    assert exported.accuracy[0] == exported.accuracy[1] <= 1
    assert exported.milliseconds.keys() == {1, 32}
    assert all(0 < time < 1000 for pair in exported.milliseconds.values() for time in pair)
    assert [path.name for path in exported.output.parent.iterdir()] == ["model.onnx"]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_saved_model_of_logits(folder):
    result = export_classifier(
        folder / "logits.keras", "saved_model", folder / "served" / "1", samples=10
    )
    assert result.activation == "softmax"
    assert result.accuracy is None
    assert result.largest_difference <= 1e-4
    assert (folder / "served" / "1" / "saved_model.pb").exists()
    assert result.size[1] > 10_000


def test_another_model_is_found(exported, folder, tmp_path, monkeypatch):
    def convert(*arguments):
        shutil.copy(exported.output, arguments[2])

    classifier(classes=10, seed=2).save(tmp_path / "model.keras")
    monkeypatch.setattr(export, "convert", convert)
    output = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match=r"otherwise than Keras: largest difference [\d.]+, all"):
        export_classifier(tmp_path, "onnx", output, samples=20)
    assert output.exists()
    output.write_bytes(b"an earlier one")
    with pytest.raises(ExportError, match=r"same for \d+\.\d% of the pictures, at least 99%"):
        export_classifier(tmp_path, "onnx", output, "float16", samples=20, overwrite=True)
    assert output.read_bytes() == b"an earlier one"
    assert (tmp_path / "failed-model.onnx").read_bytes() == exported.output.read_bytes()
    output.write_bytes(b"no model")
    shutil.copy(output, folder / "damaged.onnx")
    monkeypatch.setattr(export, "convert", lambda *given: shutil.copy(output, given[2]))
    with pytest.raises(ExportError, match=r"cannot be used by its own runtime: .*Protobuf"):
        export_classifier(tmp_path, "onnx", output, samples=20, overwrite=True)


def test_what_is_there_is_kept(exported, folder, tmp_path):
    with pytest.raises(FileExistsError, match=r"model\.onnx' exists already"):
        export_classifier(folder, "onnx", exported.output)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is there already, and no saved_model"):
        export_classifier(folder, "saved_model", tmp_path, overwrite=True)
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(FileExistsError, match="is there already, and no onnx"):
        export_classifier(folder, "onnx", tmp_path / "a.onnx", overwrite=True)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(FileExistsError, match="is there already, and no saved_model"):
        export_classifier(folder, "saved_model", tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_failed_conversion_keeps_the_earlier_file(exported, folder, tmp_path, monkeypatch):
    output = tmp_path / "deep" / "model.onnx"

    def fail(*_):
        raise ExportError("no")

    monkeypatch.setattr(export, "convert", fail)
    with pytest.raises(ExportError, match="no"):
        export_classifier(folder, "onnx", output)
    assert not list(tmp_path.iterdir())
    before = exported.output.read_bytes()
    with pytest.raises(ExportError, match="no"):
        export_classifier(folder, "onnx", exported.output, overwrite=True)
    assert exported.output.read_bytes() == before


def test_unusable_models(folder, tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        export_classifier(tmp_path, "saved_model", tmp_path / "1")
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2, kernel_initializer=keras.initializers.Constant(np.inf)))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="scores that are not finite"):
        export_classifier(tmp_path, "saved_model", tmp_path / "1")
    with pytest.raises(ValueError, match="positive integer"):
        export_classifier(folder, "saved_model", tmp_path / "1", samples=0)
    with pytest.raises(ExportError, match=r"gone\.keras' cannot be written as saved_model: "):
        fresh_process.convert(tmp_path / "gone.keras", "saved_model", tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_result_cannot_be_changed(exported):
    with pytest.raises(dataclasses.FrozenInstanceError):
        exported.agreement = 0
