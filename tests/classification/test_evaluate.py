import json
import shutil

import keras
import numpy as np
import pytest

from keras_cbam.classification.evaluate import (
    classification_report,
    evaluate_run,
    input_size,
    load_classifier,
    own_data,
    top_errors,
)
from keras_cbam.classification.task import ClassificationTask
from keras_cbam.errors import DataError, ModelError
from keras_cbam.training import find_run
from tests.classification.runs import CLASSES, cut_short, framed_images, network, train, write_run


def test_report_of_a_class_without_images():
    report = classification_report(
        np.array([0, 0, 2]), np.eye(3)[[0, 1, 2]], ["empty below", "none", "right"]
    )
    assert report["accuracy"] == pytest.approx(2 / 3)
    assert report["per_class_recall"] == {"empty below": 0.5, "none": None, "right": 1.0}
    assert report["confusion_matrix"] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_top_errors():
    # The class of each image comes first, second, fifth, sixth and last.
    scores = np.tile(np.arange(7.0)[::-1], (5, 1))
    assert top_errors(np.array([0, 1, 4, 5, 6]), scores) == {
        "top_1_error": pytest.approx(80.0),
        "top_5_error": pytest.approx(40.0),
    }


def test_equal_scores_are_not_right_for_every_class():
    errors = top_errors(np.arange(8), np.zeros((8, 8)))
    assert errors == {"top_1_error": 87.5, "top_5_error": 37.5}


def test_top_5_error_needs_six_classes():
    assert top_errors(np.array([0]), np.eye(5)[:1])["top_5_error"] is None
    assert top_errors(np.array([0]), np.eye(6)[:1])["top_5_error"] == 0


# A run on its own data


@pytest.mark.parametrize(
    ("arguments", "accuracy"),
    [
        ({}, 1.0),
        ({"recipe": "fine-tuning", "backbone": "MobileNetV2", "weights": "imagenet"}, 1.0),
        # Its images have no frame left: all are taken for dark ones.
        ({"recipe": "paper"}, 0.5),
    ],
)
def test_the_numbers_of_the_report_again(arguments, accuracy, tmp_path, monkeypatch):
    monkeypatch.setattr(ClassificationTask, "artefacts", lambda *_: {})
    monkeypatch.setattr("keras_cbam.training.trainer.check_reloaded", lambda *_: {})
    freeze = {"freeze_epochs": 1} if "weights" in arguments else {}
    train(monkeypatch, framed_images(tmp_path / "images"), tmp_path / "run", **arguments, **freeze)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["accuracy"] == accuracy
    for batch_size in (None, 3):
        result = evaluate_run(tmp_path / "run", batch_size=batch_size)
        assert result["confusion_matrix"] == report["confusion_matrix"]
        for name in ("accuracy", "per_class_recall", "top_1_error", "top_5_error"):
            assert result[name] == pytest.approx(report[name], abs=1e-6)
        # One in five of a flat folder, and no training image.
        assert (result["images"], result["data"], result["split"]) == (4, "images", "test")
    json.dumps(result)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", framed_images(tmp_path / "images"))


@pytest.mark.parametrize(
    ("split", "images", "name"),
    [
        ("test", 4, "test"),
        ("val", 4, "validation"),
        ("validation", 4, "validation"),
        ("train", 16, "train"),
    ],
)
def test_parts_of_the_own_data(run, split, images, name):
    result = evaluate_run(run, split=split)
    assert (result["images"], result["split"], result["accuracy"]) == (images, name, 1)


def test_the_folder_of_the_training_given_again_is_its_own(run, tmp_path):
    assert evaluate_run(run, data=str(tmp_path / "run" / ".." / "images"))["images"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: (images / "dark").rename(images / "zebra"), "have changed"),
        (lambda images: shutil.copy(images / "dark/00.png", images / "dark/a.png"), "have changed"),
        (lambda images: images.rename(images.with_name("moved")), r"others by --data: .*no such"),
    ],
)
def test_own_data_that_have_changed(run, tmp_path, change, message):
    digest = own_data(find_run(run)).identity()
    report = {"data": {"class_names": list(CLASSES), "digest": digest}}
    (run / "report.json").write_text(json.dumps(report))
    assert evaluate_run(run)["images"] == 4
    change(tmp_path / "images")
    with pytest.raises(DataError, match=message):
        evaluate_run(run)


# Other data


def test_other_data_are_matched_by_name(run, tmp_path):
    others = framed_images(tmp_path / "others", count=2)
    result = evaluate_run(run, data=others)
    assert (result["images"], result["accuracy"], result["data"]) == (4, 1, "others")
    shutil.rmtree(others / "bright")
    result = evaluate_run(run, data=others)
    assert result["per_class_recall"] == {"bright": None, "dark": 1.0}
    assert result["confusion_matrix"] == [[0, 0], [0, 2]]
    (others / "dark").rename(others / "zebra")
    with pytest.raises(DataError, match=r"'zebra' .* not one of the 2 classes"):
        evaluate_run(run, data=others)


def test_images_that_cannot_be_read_are_named(run, tmp_path):
    others = framed_images(tmp_path / "others", count=8)
    path = cut_short(others / "dark" / "03.png")
    result = evaluate_run(run, data=others)
    assert (result["images"], result["accuracy"]) == (15, 1)
    (line,) = result["skipped"]
    assert line.startswith(f"{path}: ")
    assert "truncated" in line


def test_a_model_without_a_run(tmp_path):
    file = tmp_path / "bare.keras"
    network().save(file)
    with pytest.raises(ValueError, match=r"bare\.keras' is a model without a run.*pass `data`,"):
        evaluate_run(file)
    images = framed_images(tmp_path / "images", count=2)
    result = evaluate_run(file, data=images)
    # Cut as for ImageNet, without the frame.
    assert result["per_class_recall"] == {"bright": 0.0, "dark": 1.0}
    framed_images(images, {"cat": 3}, count=2)
    with pytest.raises(ModelError, match="received 2 of the model and 3 of the data"):
        evaluate_run(file, data=images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "Received: batch_size=0"),
        ({"split": "half"}, "Received: split='half'"),
        ({"split": "half", "data": "others"}, "Received: split='half'"),
    ],
)
def test_unknown_arguments(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_run(run, **arguments)


# Models


def test_scores_that_are_not_finite(tmp_path):
    model = network()
    model.layers[-1].bias.assign(np.full(2, np.nan))
    run = write_run(tmp_path / "run", framed_images(tmp_path / "images"), model)
    with pytest.raises(ModelError, match="scores that are not finite"):
        evaluate_run(run)


def test_names_of_other_classes(tmp_path):
    run = write_run(tmp_path / "run", tmp_path, class_names=[*CLASSES, "cat"])
    with pytest.raises(ModelError, match="names 3 classes, the model has 2"):
        load_classifier(run)


def test_a_detector(run):
    (run / "arguments.json").write_text('{"task": "detection", "arguments": {}}')
    with pytest.raises(ModelError, match=r"model\.keras' must be a classifier, received a det"):
        load_classifier(run)


def of_shapes(inputs, outputs):
    inputs = [keras.Input(shape) for shape in inputs]
    x = keras.layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
    x = keras.layers.GlobalAveragePooling2D()(x) if outputs == 1 else x
    return keras.Model(inputs, x, name="model")


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([(32, 32, 3)] * 2, 1, "must have one input and one output, received 2 and 1"),
        ([(32, 32, 3)], 3, r"a score for each class.*output shape \(None, 32, 32, 3\)"),
        ([(None, None, 1)], 1, r"input shape \(None, None, None, 1\)"),
        ([(32, 48, 3)], 1, r"input shape \(None, 32, 48, 3\)"),
    ],
)
def test_models_that_are_no_classifiers_of_square_images(inputs, outputs, message):
    with pytest.raises(ModelError, match=rf"'model' {message}|'model' .*{message}"):
        input_size(of_shapes(inputs, outputs))


def test_size_of_a_model_that_takes_any():
    assert input_size(of_shapes([(None, None, 3)], 1)) == 224
    assert input_size(of_shapes([(40, 40, 3)], 1)) == 40
