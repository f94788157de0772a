import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam import CBAM
from keras_cbam.errors import WeightsError
from keras_cbam.training import run_folder as artefacts
from keras_cbam.training import trainer as train
from keras_cbam.training.trainer import train_classifier

TINY = {
    "backbone": "MobileNet",
    "backbone_arguments": {"alpha": 0.25},
    "where": "conv_pw_13_relu",
    "image_size": 32,
    "epochs": 2,
    "batch_size": 8,
    "verbose": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bright against dark pictures: two classes that a few steps tell apart."""
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    generator = np.random.default_rng(0)
    y = np.arange(30) % 2
    x = generator.integers(0, 60, (30, 32, 32, 3)) + 180 * y[:, None, None, None]
    np.savez(path, x=x.astype("uint8"), y=y, class_names=["dark", "bright"])
    return path


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "run"
    return train_classifier(data, output=output, **TINY)


def test_artefacts(run):
    assert {path.name for path in run.output.iterdir()} == set(artefacts.ARTEFACTS)
    assert not [path for path in run.output.parent.iterdir() if path != run.output]
    rows = (run.output / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,accuracy,loss,val_accuracy,val_loss"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]
    with Image.open(run.output / "learning_curves.png") as picture:
        assert picture.size > (600, 300)


def test_report(run):
    report = json.loads((run.output / "report.json").read_text())
    assert report == json.loads(json.dumps(run.report))
    assert set(report["per_class_recall"]) == {"dark", "bright"}
    assert np.sum(report["confusion_matrix"]) == report["data"]["test_pictures"] == 6
    assert report["parameters"]["total"] == run.model.count_params()
    assert report["arguments"]["where"] == "conv_pw_13_relu"
    assert report["arguments"]["learning_rate"] == 0.15
    assert report["versions"]["keras"] == keras.__version__
    assert report["largest_difference_after_reload"].keys() == {"model.keras", "saved_model"}
    assert max(report["largest_difference_after_reload"].values()) <= 1e-5


def test_reloaded_model_takes_pixels(run):
    model = keras.models.load_model(run.output / "model.keras")
    pixels = np.stack([np.full((32, 32, 3), value, "uint8") for value in (30, 210)])
    np.testing.assert_allclose(
        model.predict(pixels, verbose=0), run.model.predict(pixels, verbose=0), atol=1e-6
    )


def test_same_seed_gives_the_same_weights_and_history(run, data):
    again = train_classifier(data, **TINY)
    assert again.output is None
    assert again.history == run.history
    for ours, theirs in zip(again.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = train_classifier(data, seed=1, **{**TINY, "epochs": 1})
    assert other.history["loss"][0] != run.history["loss"][0]


def test_short_trainings_have_quick_batch_statistics(run):
    layers = [
        layer
        for layer in run.model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(layers) == 27
    assert {layer.momentum for layer in layers} == {0.9}
    assert sum(isinstance(layer, CBAM) for layer in run.model._flatten_layers()) == 1


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(data, precision, tmp_path):
    # What is written in mixed precision is of one kind.
    output = tmp_path / "run" if precision == "mixed_float16" else None
    result = train_classifier(data, precision=precision, output=output, **{**TINY, "epochs": 1})
    assert result.model.get_layer(index=-4).dtype_policy.name == precision
    assert np.isfinite(result.history["loss"]).all()
    assert keras.config.dtype_policy().name == "float32"


def test_trained_weights_start_another_training(run, data):
    weights = run.output / "model.keras"
    result = train_classifier(data, weights=weights, **{**TINY, "epochs": 1})
    assert result.report["arguments"]["learning_rate"] == 0.01
    assert result.history["loss"][0] < run.history["loss"][0]


def test_fine_tuning_from_given_weights(run, data):
    weights = run.output / "model.keras"
    result = train_classifier(data, weights=weights, freeze_epochs=1, **TINY)
    arguments = result.report["arguments"]
    assert (arguments["learning_rate"], arguments["weight_decay"]) == (0.003, 1e-4)
    assert len(result.history["loss"]) == 2
    normalization = "conv1_bn"
    ours, theirs = (
        model.get_layer(index=-4).get_layer(normalization).get_weights()
        for model in (result.model, run.model)
    )
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(our, their)


def test_weights_that_do_not_fit(run, data):
    with pytest.raises(WeightsError, match=r"does not fit 'mobilenet_0\.50_32'.*layers differ"):
        train_classifier(
            data,
            weights=run.output / "model.keras",
            **{**TINY, "backbone_arguments": {"alpha": 0.5}},
        )
    with pytest.raises(WeightsError, match=r"No such weights file: 'nowhere\.npz'"):
        train_classifier(data, weights="nowhere.npz", **TINY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a positive integer. Received: epochs=0"),
        ({"batch_size": 1.5}, "Received: batch_size=1.5"),
        ({"image_size": 31}, "Received: image_size=31"),
        ({"learning_rate": 0.0}, "Received: learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "Received: learning_rate=nan"),
        ({"freeze_epochs": 1}, "Received: freeze_epochs=1, weights=None"),
        ({"freeze_epochs": 3}, "Received: freeze_epochs=3, epochs=2"),
        ({"freeze_epochs": True}, "Received: freeze_epochs=True"),
        ({"weight_decay": float("inf")}, "Received: weight_decay=inf"),
        ({"seed": -1}, "Received: seed=-1"),
        ({"checkpoint_steps": 0}, "Received: checkpoint_steps=0"),
        ({"output": None, "resume": True}, "`resume` needs `output`"),
        ({"distribute": "both"}, "Received: distribute='both'"),
        ({"precision": "float8"}, "Received: precision='float8'"),
        ({"backbone": "MobilNet"}, "Did you mean 'MobileNet'"),
        ({"attention": "cbma"}, "Did you mean 'cbam'"),
        ({"where": "conv_pw_99"}, "No site for attention found"),
        ({"backbone_arguments": {"alfa": 1}}, "Received: backbone_arguments={'alfa': 1}"),
    ],
)
def test_bad_arguments_leave_nothing_behind(data, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_classifier(data, **{"output": tmp_path / "run", **TINY, **arguments})
    assert not list(tmp_path.iterdir())


def test_one_step_trains(data):
    result = train_classifier(data, **{**TINY, "epochs": 1, "batch_size": 64, "where": "pw_1_relu"})
    gate = result.model.get_layer(index=-4).get_layer("conv_pw_1_relu_cbam")
    scale = keras.ops.convert_to_numpy(gate.channel_attention.identity_scale)
    assert abs(float(scale)) > 0


def test_artefacts_that_cannot_be_written_cost_no_training(run, data, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(train, "write_run", fail)
    output = tmp_path / "run"
    with pytest.raises(OSError, match="No space left"):
        train_classifier(data, output=output, **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"]
    monkeypatch.undo()
    with pytest.raises(FileExistsError, match="an unfinished run, which --resume continues"):
        train_classifier(data, output=output, **TINY)
    with pytest.raises(ValueError, match=r"seed was 0. Received: seed=1"):
        train_classifier(data, output=output, resume=True, seed=1, **TINY)
    other = data.with_name("other.npz")
    with np.load(data) as arrays:
        np.savez(other, x=arrays["x"][::-1], y=arrays["y"], class_names=arrays["class_names"])
    with pytest.raises(ValueError, match="digest of the pictures was"):
        train_classifier(other, output=output, resume=True, **TINY)
    # Nothing is left to train.
    monkeypatch.setattr(keras.Model, "fit", None)
    resumed = train_classifier(data, output=output, resume=True, **TINY)
    assert resumed.history == run.history
    for ours, theirs in zip(resumed.model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_divergence_is_said(data, tmp_path):
    with pytest.raises(artefacts.TrainingError, match=r"diverged.*Received: learning_rate=1e"):
        train_classifier(data, learning_rate=1e30, output=tmp_path / "run", **TINY)
    assert not list(tmp_path.iterdir())


def test_attention_of_a_callable_and_a_config_with_objects(data):
    sites = []

    def attention(site):
        sites.append(site)
        return {
            "class_name": "cbam",
            "config": {"kernel_initializer": keras.initializers.HeNormal()},
        }

    result = train_classifier(data, attention=attention, **{**TINY, "epochs": 1})
    assert sites == ["conv_pw_13_relu"]
    json.dumps(result.report)
