import json

import keras
import numpy as np
import pytest

from keras_cbam import CBAM, models
from keras_cbam.classification import evaluate as evaluation
from keras_cbam.classification import paper
from keras_cbam.classification.evaluate import evaluate_classifier, load_classifier
from keras_cbam.classification.paper import train_paper_network
from keras_cbam.errors import DataError
from keras_cbam.training import run_folder as artefacts
from tests.data.imagenet_folder import cut_short, make_imagenet, one_layer_network

TINY = {
    "backbone": "ResNet18",
    "backbone_arguments": {"stem": "cifar", "width": 0.125},
    "image_size": 32,
    "epochs": 2,
    # All batches are of one size: XLA compiles the attention anew for every other. And of an even
    # one: oneDNN of TensorFlow 2.21 crashes on 7 pictures of such a narrow plain network.
    "batch_size": 8,
    "decay_epochs": 1,
    "verbose": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_imagenet(tmp_path_factory.mktemp("data"), classes=8)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "run"
    return train_paper_network(data, output=output, **TINY)


@pytest.fixture
def one_layer(monkeypatch):
    """A network that is quick to compile, by the name of ResNet18."""
    monkeypatch.setattr(models, "ResNet18", one_layer_network)
    return {**TINY, "backbone_arguments": None}


def test_artefacts(run):
    assert {path.name for path in run.output.iterdir()} == set(artefacts.ARTEFACTS)
    header = (run.output / "history.csv").read_text().splitlines()[0]
    assert header == "epoch,accuracy,loss,val_accuracy,val_loss,learning_rate"
    assert run.history["learning_rate"] == pytest.approx([0.1, 0.01])


def test_report(run, data):
    report = json.loads((run.output / "report.json").read_text())
    assert report == json.loads(json.dumps(run.report))
    assert report["top_1_error"] == pytest.approx(100 * (1 - report["accuracy"]))
    assert report["top_5_error"] <= report["top_1_error"]
    assert set(report["per_class_recall"]) == {f"n0{label}" for label in range(8)}
    assert np.sum(report["confusion_matrix"]) == report["data"]["test_pictures"] == 8
    assert report["data"]["training_pictures"] == 16
    assert report["data"]["name"] == data.name
    assert report["arguments"]["weight_decay"] == 1e-4
    assert report["arguments"]["backbone_arguments"] == TINY["backbone_arguments"]
    assert max(report["largest_difference_after_reload"].values()) <= 1e-5


def test_network_is_that_of_the_paper(run):
    assert sum(isinstance(layer, CBAM) for layer in run.model.layers) == 8
    assert run.model.input_shape == (None, 32, 32, 3)
    assert run.model.output_shape == (None, 8)
    assert all(variable.regularizer is None for variable in run.model.trainable_variables)


def test_evaluation_of_the_saved_model_gives_the_errors_of_the_report(run, data):
    result = evaluate_classifier(load_classifier(run.output / "model.keras"), data)
    for name in ("top_1_error", "top_5_error", "accuracy"):
        assert result[name] == run.report[name]


def test_same_seed_gives_the_same_weights(data, one_layer):
    first, again, other = (train_paper_network(data, seed=seed, **one_layer) for seed in (1, 1, 2))
    assert first.output is None
    assert first.history == again.history
    for ours, theirs in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert first.history["loss"][0] != other.history["loss"][0]


def test_no_confusion_matrix_of_many_classes(data, one_layer, monkeypatch):
    monkeypatch.setattr(evaluation, "LARGEST_MATRIX", 6)
    report = train_paper_network(data, **one_layer).report
    assert "confusion_matrix" not in report
    assert len(report["per_class_recall"]) == 8


def test_mixed_precision(data, one_layer):
    run = train_paper_network(data, precision="mixed_bfloat16", **one_layer)
    assert run.model.layers[-1].dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"


def test_divergence_is_said(data, one_layer, tmp_path):
    with pytest.raises(artefacts.TrainingError, match=r"diverged.*Received: learning_rate=1e"):
        train_paper_network(data, learning_rate=1e38, output=tmp_path / "run", **one_layer)
    assert not list(tmp_path.iterdir())


def test_damaged_picture_ends_the_training(tmp_path, one_layer):
    make_imagenet(tmp_path / "data")
    path = cut_short(tmp_path / "data" / "train" / "n03" / "1.png")
    with pytest.raises(DataError, match=rf"The picture '{path}' cannot be read: .*truncated"):
        train_paper_network(tmp_path / "data", output=tmp_path / "run", **one_layer)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": None}, "must be the path of a folder in ImageNet's layout.*Received: data=None"),
        ({"backbone": "ResNet51"}, r"Did you mean 'ResNet50'|Did you mean .*Received: backbone="),
        ({"backbone": "VGG16"}, "Unknown network of the CBAM paper. Known: 'ResNet18'.*='VGG16'"),
        ({"attention": "cbma"}, "Did you mean 'cbam'"),
        ({"image_size": 0}, "Received: image_size=0"),
        ({"epochs": 0}, "Received: epochs=0"),
        ({"batch_size": 0}, "Received: batch_size=0"),
        ({"learning_rate": 0.0}, "Received: learning_rate=0.0"),
        ({"decay_epochs": 0}, "Received: decay_epochs=0"),
        ({"weight_decay": -1.0}, "Received: weight_decay=-1.0"),
        ({"seed": -1}, "Received: seed=-1"),
        ({"precision": "float8"}, "Received: precision='float8'"),
        ({"backbone_arguments": {"num_classes": 5}}, "recipe sets: num_classes. Received: backb"),
        ({"backbone_arguments": {"alfa": 1}}, "ResNet18 does not take .*Received: .*'alfa': 1"),
        ({"backbone_arguments": {"stem": "x"}}, "Received: stem='x'"),
    ],
)
def test_bad_arguments_leave_nothing_behind(data, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        train_paper_network(**{"data": data, "output": tmp_path / "run", **TINY, **arguments})
    assert not isinstance(error.value, DataError)
    assert not list(tmp_path.iterdir())


def test_networks_are_those_of_the_package():
    for name in paper.NETWORKS:
        assert callable(getattr(models, name))
