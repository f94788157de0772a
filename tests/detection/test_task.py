import csv
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from keras_cbam import CBAM
from keras_cbam.data import ONE_DEVICE, Devices, reading
from keras_cbam.detection import (
    SSD,
    DetectionTask,
    DetectorArguments,
    FasterRCNN,
    StairNet,
    load_detector,
    train_detector,
)
from keras_cbam.detection import task as detection_task
from keras_cbam.errors import DataError, DivergenceError, ModelError, TrainingStopped
from keras_cbam.training import find_run
from tests.detection.folders import coco_box, coco_json, cut_short, write_image, write_many
from tests.detection.tiny import TINY, train_tiny
from tests.training.toy_task import assert_alike, stop_after

FIGURES = ("learning_curves.png", "detections.png", "precision_recall.png")


def make_task(**given):
    return DetectionTask(DetectorArguments.given(**{**TINY, **given}))


@pytest.fixture(scope="module")
def data():
    return make_task().load()


def test_what_a_run_writes(finished):
    report = json.loads((finished.output / "report.json").read_text())
    assert report == finished.report
    assert (report["task"], report["problems"]) == ("detection", {})
    assert report["data"]["training_images"] == 10
    assert report["data"]["skipped"] == []
    assert report["arguments"]["detector"] == "ssd"
    assert set(report["per_class"]) == set(report["data"]["class_names"])
    assert report["images"] == 6
    assert report["objects"] == sum(map(len, finished.data.test.classes))
    with open(finished.output / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == finished.history["val_loss"]
    assert len(rows) == 2
    # The validation part of scenes is the test part.
    for name in ("AP", "AP50"):
        assert finished.history[f"val_{name}"][-1] == report[name]
    for name in FIGURES:
        with Image.open(finished.output / name) as image:
            assert min(image.size) > 300
    assert find_run(finished.output).class_names == finished.data.class_names


def test_an_epoch_measures_the_validation_images(finished, data, monkeypatch):
    task = make_task()
    found = task.validate(finished.model, data)
    assert found == {f"val_{name}": finished.report[name] for name in ("AP", "AP50")}
    nothing = {"val_AP": np.nan, "val_AP50": np.nan}
    # COCO's metrics are -1 without objects, which is no precision.
    monkeypatch.setattr(detection_task, "coco_metrics", lambda *_: {"AP": -1.0, "AP50": -1.0})
    np.testing.assert_equal(task.validate(finished.model, data), nothing)

    def fail(*_):
        raise ModelError("The model predicts numbers that are not finite.")

    monkeypatch.setattr(detection_task, "predict_detections", fail)
    with pytest.warns(UserWarning, match="are not measured: The model predicts numbers"):
        np.testing.assert_equal(task.validate(finished.model, data), nothing)
    assert make_task(distribute="mirrored").validate(finished.model, data) == {}


def test_the_saved_detector_is_the_trained_one(finished):
    difference = finished.report["largest_difference_after_reload"]["model.keras"]
    assert difference == {"confidence": 0, "boxes": 0, "unpaired": 0}
    model, class_names = load_detector(finished.output)
    assert class_names == finished.data.class_names
    images = finished.data.test.images.astype("float32")
    one, other = (each.predict(images, verbose=0) for each in (finished.model, model))
    assert (one["num_detections"] > 0).any()
    for key, value in one.items():
        np.testing.assert_allclose(value, other[key], atol=1e-4)


def test_same_arguments_same_run(finished, tiny_detectors):
    again = train_tiny()
    assert again.output is None
    assert_alike(again, finished)


@pytest.mark.parametrize("steps", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5))])
def test_stopped_and_resumed_is_the_undisturbed_run(
    finished, tiny_detectors, tmp_path, monkeypatch, steps
):
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(TrainingStopped):
            train_tiny(output=tmp_path / "run")
    resumed = train_tiny(resume=tmp_path / "run")
    assert_alike(resumed, finished)
    same = ("AP", "per_class", "images", "data", "parameters")
    assert all(resumed.report[name] == finished.report[name] for name in same)


def first_images(task, data):
    return next(task.batches(data, "train").as_numpy_iterator())[0]


def data_of(task, _):
    return task.load().identity()


def network(task, data):
    model = task.build(data)
    # Not their names, which Keras counts up.
    return str(
        [type(layer).__name__ for layer in model._flatten_layers()]
    ), model.backbone.input_shape[1]


def rates(task, data):
    return [float(compiled(task).optimizer._learning_rate(step)) for step in (0, 9, 15)]


def compiled(task, steps=10):
    model = SSD.__new__(SSD)
    keras.Model.__init__(model)
    (phase,) = task.phases(model, steps)
    with phase.compiled():
        return model


def short_side_of_the_model(task, data):
    return repr(task.build(data).short_side)


def decay(task, data):
    return compiled(task).optimizer.weight_decay


def trainable_norms(task, data):
    norms = [keras.layers.BatchNormalization]
    layers = task.build(data).backbone._flatten_layers()
    return [layer.trainable for layer in layers if type(layer) in norms]


def is_jitted(task, data):
    return compiled(task).jit_compile


@pytest.mark.parametrize(
    ("given", "observe"),
    [
        ({"augment": "none"}, first_images),
        ({"seed": 1}, first_images),
        ({"seed": 1}, data_of),
        ({"batch_size": 3}, first_images),
        ({"image_size": 64}, first_images),
        ({"image_size": 64}, data_of),
        ({"image_size": 64}, network),
        ({"train_scenes": 11}, data_of),
        ({"test_scenes": 7}, data_of),
        ({"attention": "none"}, network),
        ({"detector": "stairnet"}, network),
        ({"backbone": "MobileNet"}, network),
        ({"learning_rate": 1e-4}, rates),
        ({"epochs": 3}, rates),
        ({"xla": True}, is_jitted),
        ({"augment": "ssd"}, first_images),
        ({"augment": "flip"}, first_images),
        ({"short_side": 20}, first_images),
        ({"short_side": (20, 24)}, first_images),
        ({"short_side": 20}, short_side_of_the_model),
        ({"weight_decay": 0.1}, decay),
        ({"freeze_batch_norm": True, "backbone": "MobileNet"}, trainable_norms),
    ],
)
def test_every_option_changes_something(data, given, observe):
    one, again, other = (observe(make_task(**each), data) for each in ({}, {}, given))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_every_epoch_is_augmented_anew(data):
    epochs = [
        next(make_task().batches(data, "train", epoch).as_numpy_iterator())[0] for epoch in (0, 1)
    ]
    assert not np.array_equal(*epochs)


def test_devices_share_the_batches(data):
    task = make_task()
    for part in ("train", "validation"):
        whole, half = (
            next(task.batches(data, part, devices=devices).as_numpy_iterator())[0]
            for devices in (ONE_DEVICE, Devices(2, 2, process=1))
        )
        np.testing.assert_array_equal(half, whole[2:])


def test_xla_compiles_the_training_and_not_the_suppression(data, monkeypatch):
    model = make_task(xla=True).build(data)
    model.compile("adam", jit_compile=True)
    given = []

    def spy(function, **options):
        given.append(options)
        return function

    monkeypatch.setattr(tf, "function", spy)
    model.make_predict_function()
    assert given
    assert not any(options.get("jit_compile") for options in given)
    assert model.jit_compile


@pytest.mark.parametrize(
    ("detector", "kind"),
    [
        ("ssd", SSD),
        ("stairnet", StairNet),
        ("faster_rcnn", FasterRCNN),
    ],
)
def test_the_detector_is_the_one_asked_for(data, detector, kind):
    assert type(make_task(detector=detector, image_size=64).build(data)) is kind


@pytest.mark.parametrize("attention", ["cbam", "none"])
def test_attention_is_where_it_is_asked_for(data, attention):
    layers = make_task(attention=attention).build(data)._flatten_layers()
    assert any(isinstance(layer, CBAM) for layer in layers) == (attention == "cbam")


def test_the_backbone_starts_from_the_weights(data, tmp_path):
    source = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3))
    source.save_weights(tmp_path / "some.weights.h5")
    given = {"detector": "faster_rcnn", "backbone": "MobileNet"}
    kernels = [
        make_task(**given, weights=weights).build(data).backbone.get_layer("conv1").get_weights()[0]
        for weights in (tmp_path / "some.weights.h5", None)
    ]
    expected = source.get_layer("conv1").get_weights()[0]
    np.testing.assert_array_equal(kernels[0], expected)
    assert np.abs(kernels[1] - expected).max() > 0.01


def test_the_optimizer():
    """Of 20 steps, two warm up; weights decay; gradients are clipped."""
    found = compiled(make_task(learning_rate=0.1)).optimizer
    assert type(found) is keras.optimizers.AdamW
    assert (found.weight_decay, found.clipnorm) == (1e-4, 10.0)
    rate = found._learning_rate
    rates = [float(rate(step)) for step in (0, 1, 2, 11, 20)]
    np.testing.assert_allclose(rates, [0.05, 0.075, 0.1, 0.05, 0], atol=1e-7)


def test_not_augmented_images_are_those_of_the_set(data):
    found = {image.tobytes() for image in first_images(make_task(augment="none"), data)}
    assert found <= {image.astype("float32").tobytes() for image in data.train.images}


def test_the_sample_is_spread_over_the_test_images(tmp_path):
    folder = with_test_part(write_many(tmp_path, 1), 40)
    task = make_task(data=folder, image_size=40)
    data = task.load()
    cut_short(data.test.images.paths[0])
    with reading(*data.sources()):
        # Known as unreadable once it was read.
        list(task.batches(data, "test"))
        images, _ = next(task.batches(data, "sample").as_numpy_iterator())
    colours = images[:, 5, 5, 0].tolist()
    assert len(colours) == 16
    assert (colours[0], colours[-1]) == (6, 6 * 39)


def with_test_part(folder, count):
    names = {i: f"{i:02}.png" for i in range(count)}
    for i, name in names.items():
        write_image(folder / "val2017" / name, colour=6 * i)
    boxes = [coco_box(i, [1, 1, 20, 20]) for i in names]
    coco_json(folder / "annotations" / "instances_val2017.json", names, boxes)
    return folder


def test_bad_images_are_skipped_counted_and_named(tiny_detectors, tmp_path):
    folder = with_test_part(write_many(tmp_path / "data", 10), 10)
    bad = [folder / part / "03.png" for part in ("train2017", "val2017")]
    for path in bad:
        cut_short(path)
    given = {"data": folder, "epochs": 1}
    run = train_tiny(**given, output=tmp_path / "run")
    assert run.report["problems"] == {}
    assert np.isfinite(run.history["loss"] + run.history["val_loss"]).all()
    assert (run.report["images"], run.report["objects"]) == (9, 9)
    first, second = run.report["data"]["skipped"]
    assert first.startswith(f"train: {bad[0]}: ")
    assert second.startswith(f"test: {bad[1]}: ")
    with pytest.raises(DataError, match=r"1 of 10 images cannot be read, .*03\.png"):
        train_tiny(**given, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_precision(tiny_detectors, precision, tmp_path):
    run = train_tiny(precision=precision, epochs=1, output=tmp_path / "run")
    assert run.report["problems"] == {}
    assert run.model.backbone.get_layer("level1").compute_dtype == precision[len("mixed_") :]


@pytest.mark.slow
def test_losses_are_averaged_over_devices():
    run = subprocess.run(
        [sys.executable, "-m", "tests.detection.distributed"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=1e-4)
    assert found["difference"] < 1e-4


@pytest.mark.slow
def test_early_stopping(tiny_detectors, tmp_path):
    # Nothing is learned, so the loss never falls.
    given = {"learning_rate": 1e-30, "epochs": 4, "output": tmp_path / "run"}
    run = train_tiny(**given, early_stopping=1)
    assert len(run.history["val_loss"]) == 2


def test_divergence_keeps_what_there_is(tiny_detectors, tmp_path):
    with pytest.raises(DivergenceError, match="diverged in epoch 1"):
        train_tiny(learning_rate=1e30, output=tmp_path / "run")
    assert (tmp_path / "run" / "arguments.json").exists()


def test_each_figure_may_fail_alone(finished, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space")

    monkeypatch.setattr(Figure, "savefig", fail)
    task = make_task()
    _, found = task.measure(finished.model, finished.data)
    writers = task.artefacts(finished.model, finished.data, finished.history, {}, found)
    assert set(writers) == set(task.files) == set(FIGURES)
    for name, write in writers.items():
        with pytest.raises(OSError, match="no space"):
            write(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "ResNet5"}, "Did you mean"),
        ({"backbone": "smal"}, "Did you mean 'small'"),
        ({"attention": "cbma"}, "Did you mean 'cbam'"),
        ({"image_size": 31}, "at least 32. Received: image_size=31"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_detector(**{**TINY, **given}, output=tmp_path / "run")
    assert not list(tmp_path.iterdir())
