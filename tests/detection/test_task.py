import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam.detection import comparison as reloading
from keras_cbam.detection import (
    evaluate_detector,
    load_detector,
    train_detector,
)
from keras_cbam.detection import task as training
from keras_cbam.detection.loading import check_classes, picture_size
from keras_cbam.errors import DataError, DivergenceError, ModelError, TrainingError
from keras_cbam.training.run_folder import DETECTION_ARTEFACTS
from tests.detection.folders import write_coco, write_picture
from tests.detection.networks import tiny_detector
from tests.detection.sets import detected, make_set

TINY = {"image_size": 32, "epochs": 1, "batch_size": 4, "train_scenes": 8, "test_scenes": 6}


def compile_eagerly(model, optimizer, jit_compile):
    model.compile(optimizer, run_eagerly=True, jit_compile=jit_compile)


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "build_detector", tiny_detector)
        # Two steps take less time than their graph.
        patch.setattr(training, "compile_detector", compile_eagerly)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection") / "run"
    return train_detector(**TINY, output=folder, verbose=0)


def test_artefacts(run):
    assert {path.name for path in run.output.iterdir()} == set(DETECTION_ARTEFACTS)
    assert not run.output.with_name("run.unfinished").exists()
    assert json.loads((run.output / "report.json").read_text()) == run.report
    report = run.report
    assert report["data"]["training_pictures"] == 8
    assert report["data"]["skipped"] == {"training": {}, "test": {}}
    assert report["arguments"]["detector"] == "ssd"
    assert report["arguments"]["image_size"] == 32
    assert set(report["per_class"]) == set(report["data"]["class_names"])
    assert report["objects"] == sum(map(len, run.data.test.classes))
    again = evaluate_detector(run.model, run.data.test, 32)
    assert all(report[name] == value for name, value in again.items() if name != "skipped")
    with open(run.output / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1
    assert float(rows[0]["loss"]) == run.history["loss"][0]
    for name in ("learning_curves.png", "detections.png", "precision_recall.png"):
        with Image.open(run.output / name) as picture:
            assert min(picture.size) > 300


def test_the_saved_detector_is_the_trained_one(run):
    difference = run.report["largest_difference_after_reload"]["model.keras"]
    assert difference["unpaired"] == 0
    model, class_names = load_detector(run.output)
    assert class_names == run.data.class_names
    assert picture_size(model) == 32
    pictures = np.stack(list(run.data.test.pictures)).astype("float32")
    one, other = (each.predict(pictures, verbose=0) for each in (run.model, model))
    assert (one["num_detections"] > 0).any()
    for key, value in one.items():
        np.testing.assert_allclose(value, other[key], atol=1e-4)


def test_same_arguments_same_run(run):
    again = train_detector(**TINY, verbose=0)
    assert again.output is None
    assert again.history == run.history
    for one, other in zip(run.model.get_weights(), again.model.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_another_detector_would_be_noticed(run, monkeypatch):
    monkeypatch.setattr(reloading, "reloaded", lambda *_: {"unpaired": 0.02})
    sample = np.stack(list(run.data.test.pictures))
    with pytest.raises(TrainingError, match=r"model\.keras predicts otherwise .* are others"):
        reloading.verify_detector(run.output, run.model, sample)


def test_compare_detections():
    one = detected([[0, 0, 10, 10], [5, 5, 20, 20], [-1] * 4], [0, 1, -1], [0.9, 0.5, -1])
    swapped = detected([[5, 5, 20, 20], [0, 0, 10, 10.5], [-1] * 4], [1, 0, -1], [0.4, 0.9, -1])
    one, swapped = ({key: value[None] for key, value in each.items()} for each in (one, swapped))
    result = reloading.compare_detections(one, swapped, 0.2, 100)
    assert result == {"confidence": pytest.approx(0.1), "boxes": 0.5, "unpaired": 0}
    result = reloading.compare_detections(one, swapped, 0.01, 100)
    assert result == {"confidence": 0, "boxes": 0.5, "unpaired": 0.5}
    other_class = {**one, "classes": np.array([[1, 1, -1]])}
    assert reloading.compare_detections(one, other_class, 0.01, 100)["unpaired"] == 0.5


def test_folder_with_what_was_left_out(tmp_path):
    data = write_coco(tmp_path / "data")
    (data / "train2017" / "b.png").unlink()
    run = train_detector(data=data, **TINY, verbose=0)
    assert run.report["data"]["training_pictures"] == 1
    assert run.report["data"]["skipped"]["training"] == {"missing pictures": 1}
    assert run.report["data"]["class_names"] == ["cat", "dog"]


def test_a_damaged_test_picture_costs_no_training(tmp_path, monkeypatch):
    data = write_coco(tmp_path / "data")
    write_picture(data / "val2017" / "c.png", width=41)
    monkeypatch.setattr(keras.Model, "fit", None)
    with pytest.raises(DataError, match="must be 40 pixels wide"):
        train_detector(data=data, **TINY, verbose=0)


def test_divergence(tmp_path):
    with pytest.raises(DivergenceError, match=r"diverged.*Received: learning_rate=1e\+30"):
        train_detector(**TINY, learning_rate=1e30, output=tmp_path / "run", verbose=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 31}, "at least 32. Received: image_size=31"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": -1.0}, "positive number"),
        ({"backbone": "ResNet5"}, "Did you mean"),
        ({"backbone": "smal"}, "Did you mean 'small'"),
        ({"detector": "yolov8", "precision": "mixed_float16"}, "compute in float32"),
        ({"detector": "retinanet", "image_size": 48}, "multiple of 32"),
        ({"attention": "cbma"}, "Did you mean 'cbam'"),
        ({"weights": "file.h5"}, r"Received: weights='file\.h5'"),
        ({"precision": "float8"}, "precision"),
        ({"train_scenes": 0}, "train_scenes"),
    ],
)
def test_wrong_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_detector(**{**TINY, **arguments}, output=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_classes_of_other_data(run):
    names = run.data.class_names
    check_classes(run.model, names, run.data.test)
    with pytest.raises(ModelError, match="must have the 2 classes of 'set', received one of 10"):
        check_classes(run.model, names, make_set([[]], [[]]))
    with pytest.raises(ModelError, match="received 'Ankle boot' as class 0 for 'T-shirt/top'"):
        check_classes(run.model, names[::-1], run.data.test)
