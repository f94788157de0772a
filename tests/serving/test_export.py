import dataclasses
import shutil

import keras
import numpy as np
import pytest

from keras_cbam.errors import ExportError, ModelError
from keras_cbam.serving import export
from keras_cbam.serving.conversion import convert
from keras_cbam.serving.export import export_model
from tests.serving.models import SIZE, classifier, images

pytestmark = pytest.mark.usefixtures("short_turns")
LABELS = np.arange(12) % 5


def exported_to(output, model_file, quantize="none", labels=LABELS):
    model = keras.models.load_model(model_file)
    return export_model(
        model, model_file, "onnx", output, quantize, (images(), labels), None, data="", skipped=[]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, and the ONNX file of the first."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    folder = tmp_path_factory.mktemp("models")
    classifier().save(folder / "model.keras")
    classifier(seed=2).save(folder / "other.keras")
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    return exported_to(folder / "new" / "model.onnx", folder / "model.keras")


def test_comparison(exported, folder):
    assert exported.output.stat().st_size == exported.size[1]
    assert (folder / "model.keras").stat().st_size == exported.size[0]
    assert (exported.images, exported.input_shape) == (12, (SIZE, SIZE, 3))
    assert (exported.activation, exported.calibration_images) == (None, 0)
    assert 0 <= exported.largest_difference <= 1e-4
    assert exported.agreement == 1
    assert 0 <= exported.accuracy[0] == exported.accuracy[1] < 1
    assert exported.milliseconds.keys() == {1, 32}
    assert all(0 < time < 1000 for pair in exported.milliseconds.values() for time in pair)
    # No scratch is left.
    assert [path.name for path in exported.output.parent.iterdir()] == ["model.onnx"]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    with pytest.raises(dataclasses.FrozenInstanceError):
        exported.agreement = 0


def test_without_labels(exported, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "convert", lambda *given: shutil.copy(exported.output, given[2]))
    result = exported_to(tmp_path / "a.onnx", folder / "model.keras", labels=None)
    assert result.accuracy is None
    assert result.agreement == 1


def test_another_model_is_found(exported, folder, tmp_path, monkeypatch):
    wrong = exported.output
    monkeypatch.setattr(export, "convert", lambda *given: shutil.copy(wrong, given[2]))
    output = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match=r"otherwise than Keras: largest difference [\d.]+, all"):
        exported_to(output, folder / "other.keras")
    assert output.read_bytes() == wrong.read_bytes()
    output.write_bytes(b"an earlier one")
    with pytest.raises(ExportError, match=r"same for \d+\.\d% of the images, at least 99%"):
        exported_to(output, folder / "other.keras", "float16")
    assert output.read_bytes() == b"an earlier one"
    assert (tmp_path / "failed-model.onnx").read_bytes() == wrong.read_bytes()
    wrong = folder / "model.keras"
    with pytest.raises(ExportError, match=r"cannot be used by its own runtime: .*Protobuf"):
        exported_to(output, folder / "other.keras")


def test_a_failed_conversion_keeps_the_earlier_file(exported, folder, tmp_path, monkeypatch):
    def fail(*given):
        given[2].write_text("half")
        raise ExportError("no")

    monkeypatch.setattr(export, "convert", fail)
    with pytest.raises(ExportError, match="no"):
        exported_to(tmp_path / "deep" / "model.onnx", folder / "model.keras")
    assert not list(tmp_path.iterdir())
    before = exported.output.read_bytes()
    with pytest.raises(ExportError, match="no"):
        exported_to(exported.output, folder / "model.keras")
    assert exported.output.read_bytes() == before


def test_scores_that_are_not_finite(tmp_path):
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2, kernel_initializer=keras.initializers.Constant(np.inf)))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="scores that are not finite"):
        exported_to(tmp_path / "a.onnx", tmp_path / "model.keras")


def test_a_model_file_that_is_gone(tmp_path):
    with pytest.raises(ExportError, match=r"gone\.keras' cannot be written as saved_model: "):
        convert(tmp_path / "gone.keras", "saved_model", tmp_path / "1")
    assert not (tmp_path / "1").exists()
