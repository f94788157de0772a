import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbam.detection import build_detector, export, export_run
from keras_cbam.errors import DataError, ExportError
from keras_cbam.serving.export import ServedArtefact
from tests.detection.folders import write_coco, write_many


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "served"
    return export_run(finished.output, "saved_model", output, samples=4)


@pytest.mark.slow
def test_the_saved_model_finds_the_same(exported, finished):
    assert (exported.format, exported.data, exported.images) == (
        *("saved_model", "clothing_scenes", 4),
    )
    assert exported.differences["unpaired"] == 0
    assert exported.skipped == []
    loaded = tf.saved_model.load(str(exported.output))
    images = finished.data.test.images.astype("float32")
    expected = finished.model.predict(images, verbose=0)
    serving = loaded.signatures["serving_default"]
    # Any number of images.
    for found in (loaded.serve(images), serving(pixels=tf.constant(images))):
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)
    assert loaded.serve(images[:1])["boxes"].shape == (1, *expected["boxes"].shape[1:])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"format": "onnx", "output": "a.onnx", "quantize": "int8"},
            "Detectors are quantized in the format litert only",
        ),
        ({"format": "litert"}, r"must end in \.tflite"),
        ({"quantize": "int8"}, "must be one of none for the format saved_model"),
    ],
)
def test_other_formats_are_refused_in_one_sentence(given, sentence, tmp_path):
    given = {"format": "saved_model", "output": tmp_path / "served", **given}
    with pytest.raises(ValueError, match=sentence):
        export_run("no run is read", **given)


@pytest.mark.slow
def test_onnx_finds_the_same(finished, tmp_path):
    """And takes any number of images."""
    runtime = pytest.importorskip("onnxruntime", reason="needs keras_cbam[onnx]")
    pytest.importorskip("tf2onnx", reason="needs keras_cbam[onnx]")
    file = tmp_path / "detector.onnx"
    exported = export_run(finished.output, "onnx", file, samples=4)
    assert exported.detections > 0
    assert exported.differences["unpaired"] == 0
    assert exported.differences["boxes"] < 0.01
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    images = finished.data.test.images.astype("float32")
    for count in (1, 2):
        expected = finished.model.predict(images[:count], verbose=0)
        found = session.run(list(expected), {"pixels": images[:count]})
        for (name, values), array in zip(expected.items(), found):
            np.testing.assert_allclose(array, values, atol=1e-2, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["none", "float16", "int8"])
def test_litert_finds_the_same(quantize, finished, tmp_path):
    """And `"int8"` learns from training images of the run."""
    pytest.importorskip("ai_edge_litert", reason="needs keras_cbam[litert]")
    file = tmp_path / "detector.tflite"
    exported = export_run(finished.output, "litert", file, quantize, samples=4)
    assert exported.differences["unpaired"] <= {"none": 0, "float16": 0.05, "int8": 0.25}[quantize]
    assert exported.differences["boxes"] < {"none": 0.01, "float16": 1, "int8": 5}[quantize]
    expected = min(4, len(finished.data.train)) if quantize == "int8" else 0
    assert exported.calibration_images == expected
    assert exported.size[1] == file.stat().st_size
    assert exported.detections > 0
    dtype = {"none": None, "float16": "float16", "int8": "int8"}[quantize]
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(file))
    held = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    assert {"float16", "int8"} & held == ({dtype} if dtype else set())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file_format", "name", "needed"),
    [
        ("saved_model", "served", "tensorflow"),
        ("onnx", "a.onnx", "tf2onnx"),
        ("litert", "a.tflite", "ai_edge_litert"),
    ],
)
@pytest.mark.parametrize("detector", ["stairnet", "faster_rcnn"])
def test_the_other_detectors_find_the_same(detector, file_format, name, needed, tmp_path):
    pytest.importorskip(needed, reason="needs keras_cbam[onnx,litert]")
    keras.utils.set_random_seed(0)
    build_detector(detector, 3, 64).save(tmp_path / "model.keras")
    given = {"data": "scenes", "samples": 4}
    found = export_run(tmp_path / "model.keras", file_format, tmp_path / name, **given)
    assert found.detections > 0
    assert found.differences["unpaired"] == 0
    assert found.differences["boxes"] < 0.01


@pytest.mark.slow
def test_an_earlier_one_is_replaced_only_when_asked(exported, finished):
    with pytest.raises(FileExistsError, match="exists already"):
        export_run(finished.output, "saved_model", exported.output)


@pytest.mark.slow
def test_other_predictions_are_an_error(finished, tmp_path, monkeypatch):
    def other(*_):
        return {
            "boxes": np.ones((3, 1, 4), "float32"),
            "classes": np.zeros((3, 1)),
            "confidence": np.ones((3, 1), "float32"),
        }

    monkeypatch.setattr(ServedArtefact, "predict", other)
    served = tmp_path / "served"
    message = rf"saved_model predicts otherwise than Keras: .* others.* It is at '{served}'"
    with pytest.raises(ExportError, match=message):
        export_run(finished.output, "saved_model", served, samples=3)
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def fake_artefact(monkeypatch, model):
    """No artefact is written, and the model predicts; returns what there is of images."""
    seen = {}

    class Fake:
        def predict(self, images, _):
            return seen.update(images=images) or model.predict(images, verbose=0)

    @contextlib.contextmanager
    def served(model_file, file_format, output, quantize, calibration, **_):
        seen.update(calibration=calibration)
        yield Fake()

    monkeypatch.setattr(export, "served", served)
    monkeypatch.setattr(export.artefact_files, "size_in_bytes", lambda _: 0)
    return seen


def test_images_of_other_data(finished, tmp_path, monkeypatch):
    data = write_many(tmp_path / "data", 3)
    seen = fake_artefact(monkeypatch, finished.model)
    given = {"format": "saved_model", "output": tmp_path / "served"}
    found = export_run(finished.output / "model.keras", data=data, **given)
    assert (found.images, found.data, seen["images"].shape) == (1, "data", (1, 32, 32, 3))


def test_int8_learns_from_training_images_of_the_own_folder(finished, tmp_path, monkeypatch):
    data = write_many(tmp_path / "data", 10)
    seen = fake_artefact(monkeypatch, finished.model)
    given = {"data": data, "quantize": "int8", "overwrite": True}
    found = export_run(finished.output, "litert", tmp_path / "a.tflite", **given)
    assert (found.images, found.calibration_images) == (1, 10)
    assert seen["calibration"].shape == (10, *seen["images"].shape[1:])


def test_int8_without_training_images(finished, tmp_path):
    data = write_coco(tmp_path / "data")
    (data / "annotations" / "instances_train2017.json").unlink()
    given = {"data": data, "quantize": "int8"}
    with pytest.raises(DataError, match="'data' must have a train part, received none"):
        export_run(finished.output, "litert", tmp_path / "a.tflite", **given)
