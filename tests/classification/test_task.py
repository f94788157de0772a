import inspect
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam import BAM, CBAM, ConvolutionControl, models
from keras_cbam.classification import task as task_module
from keras_cbam.classification.arguments import ClassifierArguments
from keras_cbam.classification.task import ClassificationTask, fit_classifier, train_classifier
from keras_cbam.errors import DataError, TrainingStopped
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.training import trainer
from tests.classification.runs import cut_short
from tests.data.imagenet_folder import make_imagenet, one_layer_network
from tests.training.toy_task import assert_alike, stop_after

COUNTS = (16, 8)
TINY = {"backbone": "MobileNet", "epochs": 1, "batch_size": 6, "learning_rate": 0.01, "verbose": 0}
MOBILENET = {
    "backbone": "MobileNet",
    "backbone_arguments": {"alpha": 0.25},
    "where": "conv_pw_13_relu",
}
PAPER = {"recipe": "paper", "backbone": "ResNet18", "image_size": 32}
FINE_TUNING = {"recipe": "fine-tuning", "backbone": "tiny", "weights": "imagenet", "image_size": 32}


@pytest.fixture(autouse=True)
def no_fresh_process(monkeypatch):
    """The check after a training takes seconds; `trained_run` has had it."""
    monkeypatch.setattr(trainer, "check_reloaded", lambda *_: {})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Dark images and half as many bright ones; their parts are given."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    generator = np.random.default_rng(0)
    arrays = {}
    for suffix, factor in (("", 1), ("t", 0.5)):
        labels = np.repeat([0, 1], [int(factor * count) for count in COUNTS])
        noise = generator.integers(0, 60, (len(labels), 32, 32, 3))
        arrays[f"x{suffix}"] = (noise + 180 * labels[:, None, None, None]).astype("uint8")
        arrays[f"y{suffix}"] = labels
    np.savez(path, class_names=["dark", "bright"], **arrays)
    return path


def tiny_classifier(name, num_classes, input_shape, **_):
    """In the place of `attention_classifier`; with a backbone, if its name is tiny."""
    if name != "tiny":
        return one_layer_network(None, num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(3, 8, 8, name="convolution")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.Model(inputs, x, name="backbone")(inputs)
    dense = keras.layers.Dense(num_classes, activation="softmax", name="head")
    return keras.Model(inputs, dense(keras.layers.Flatten()(x)))


compile_model = keras.Model.compile


def compile_eagerly(model, *given, jit_compile, **more):
    """Tracing takes longer than the few steps of these tests."""
    more["run_eagerly"] = not jit_compile
    compile_model(model, *given, jit_compile=jit_compile, **more)


@pytest.fixture
def tiny(monkeypatch):
    """Networks that train in a moment, in the places of those that do not."""
    monkeypatch.setattr(task_module, "attention_classifier", tiny_classifier)
    monkeypatch.setattr(models, "ResNet18", one_layer_network)
    monkeypatch.setattr(keras.Model, "compile", compile_eagerly)


def task_of(**given):
    return ClassificationTask(ClassifierArguments.given(**{**TINY, **given}))


def batches_of(task, data, part="train", epoch=0):
    return list(task.batches(data, part, epoch).as_numpy_iterator())


# What a whole run writes.


def test_artefacts(trained_run):
    assert {path.name for path in trained_run.iterdir()} == {
        *(".lock", "arguments.json", "best.weights.h5", "checkpoints", "history.csv"),
        "model.keras",
        *("report.json", *ClassificationTask.files),
    }
    for path in trained_run.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) >= 200
            assert image.info["dpi"] == pytest.approx((160, 160), abs=0.5)
            assert len(image.convert("RGB").getcolors(image.width * image.height)) > 10
    rows = (trained_run / "history.csv").read_text().splitlines()
    assert rows[0] == "epoch,accuracy,loss,val_accuracy,val_loss"


def test_report(trained_run):
    report = json.loads((trained_run / "report.json").read_text())
    assert (report["task"], report["problems"]) == ("classification", {})
    assert report["accuracy"] == 1 - report["top_1_error"] / 100
    assert set(report["per_class_recall"]) == set(report["data"]["class_names"])
    assert np.sum(report["confusion_matrix"]) == report["data"]["test_images"]
    assert report["data"]["training_images"] > report["data"]["test_images"]
    assert report["data"]["skipped"] == []
    assert report["parameters"]["total"] >= report["parameters"]["trainable"] > 0
    assert report["arguments"]["augment"] == "flip"
    assert report["versions"]["keras"] == keras.__version__
    differences = report["largest_difference_after_reload"]
    assert differences.keys() == {"model.keras", "saved_model"}
    assert max(each["probabilities"] for each in differences.values()) <= 1e-5


@pytest.mark.usefixtures("tiny")
def test_a_run_of_the_paper(tmp_path):
    data = make_imagenet(tmp_path / "data", classes=7)
    run = train_classifier(data=data, output=tmp_path / "run", **{**TINY, **PAPER})
    assert run.report["problems"] == {}
    assert run.report["data"]["training_images"] == 14
    assert run.report["data"]["test_images"] == run.report["data"]["validation_images"] == 7
    assert run.report["top_1_error"] == pytest.approx(100 * (1 - run.report["accuracy"]))
    assert run.report["top_5_error"] <= run.report["top_1_error"]
    assert set(run.report["per_class_recall"]) == {f"n0{label}" for label in range(7)}
    assert run.report["arguments"]["augment"] == "crop"
    # The paper's evaluation; the other recipes see all of the square.
    assert run.data.test.images.resize == "center_crop"
    assert task_of(data=data).load().test.images.resize == "square"
    # A network without attention has no figure of it.
    assert not (run.output / "attention.png").exists()


# Each argument changes what a training does.


@pytest.fixture(scope="module")
def plain(data):
    """A run of the least arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_module, "attention_classifier", tiny_classifier)
        return train_classifier(data=data, **TINY)


@pytest.mark.usefixtures("tiny")
def test_the_same_arguments_give_the_same_run(data, plain):
    assert_alike(train_classifier(data=data, **TINY), plain)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "given",
    [
        {"learning_rate": 0.02},
        {"batch_size": 5},
        {"weight_decay": 0.5},
        {"augment": "none"},
    ],
)
def test_other_arguments_give_other_weights(data, plain, given):
    run = train_classifier(data=data, **{**TINY, **given})
    kernels = (each.model.get_weights()[0] for each in (run, plain))
    assert np.abs(np.subtract(*kernels)).max() > 1e-5


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("class_weights", "label_smoothing"), [(None, 0.0), ("balanced", 0.0), ("balanced", 0.3)]
)
def test_loss(data, class_weights, label_smoothing):
    given = {"class_weights": class_weights, "label_smoothing": label_smoothing}
    # A rate that changes nothing, so that all steps see one network.
    run = train_classifier(data=data, augment="none", **{**TINY, "learning_rate": 1e-9}, **given)
    for part, name in ((run.data.train, "loss"), (run.data.validation, "val_loss")):
        found = run.model.predict(part.images.array, verbose=0)
        target = np.eye(2)[part.labels] * (1 - label_smoothing) + label_smoothing / 2
        weights = np.ones(len(part))
        if class_weights == "balanced" and name == "loss":
            # Of each class: all images / (classes * images of the class).
            weights = np.array([24 / (2 * 16), 24 / (2 * 8)])[part.labels]
        expected = np.mean(weights * -(target * np.log(found)).sum(axis=1))
        assert run.history[name][0] == pytest.approx(expected, rel=1e-5)
    accuracy = np.mean(found.argmax(axis=1) == part.labels)
    assert run.history["val_accuracy"][0] == pytest.approx(accuracy)


def matches(batches, images):
    """For each image of the batches, which of the originals it is; -1 where it is none."""
    originals = {image.tobytes(): index for index, image in enumerate(images)}
    return [originals.get(pixels.tobytes(), -1) for batch in batches for pixels in batch[0]]


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_augmentation(data, augment):
    task = task_of(data=data, augment=augment)
    loaded = task.load()
    images = loaded.train.images.array
    batches = batches_of(task, loaded)
    as_they_are, mirrored = matches(batches, images), matches(batches, images[:, :, ::-1])
    if augment == "none":
        assert sorted(as_they_are) == list(range(len(images)))
    elif augment == "flip":
        found = np.maximum(as_they_are, mirrored)
        assert sorted(found) == list(range(len(images)))
        assert min(sum(np.array(kind) >= 0) for kind in (as_they_are, mirrored)) > 3
    else:
        assert set(as_they_are) == set(mirrored) == {-1}
    for part in ("validation", "test"):
        expected = getattr(loaded, part).images.array
        assert matches(batches_of(task, loaded, part), expected) == list(range(len(expected)))


def test_seed(data, tmp_path):
    tasks = [task_of(data=data, seed=seed) for seed in (0, 1)]
    loaded = tasks[0].load()
    orders = [[list(labels) for _, labels in batches_of(task, loaded)] for task in tasks]
    assert orders[0] != orders[1]
    assert orders[0] != [list(labels) for _, labels in batches_of(tasks[0], loaded, epoch=1)]
    with np.load(data) as arrays:
        np.savez(tmp_path / "one_part.npz", x=arrays["x"], y=arrays["y"])
    parts = [task_of(data=tmp_path / "one_part.npz", seed=seed).load() for seed in (0, 1, 0)]
    tests = [part.test.images.array.tobytes() for part in parts]
    assert tests[0] == tests[2] != tests[1]


@pytest.mark.usefixtures("tiny")
def test_seed_of_the_weights(data):
    given = {**TINY, "learning_rate": 1e-9}
    runs = (train_classifier(data=data, seed=seed, **given) for seed in (0, 1))
    assert np.abs(np.subtract(*(run.model.get_weights()[0] for run in runs))).min() > 1e-6


@pytest.mark.usefixtures("tiny")
def test_precision(data):
    run = train_classifier(data=data, precision="mixed_float16", **TINY)
    assert run.model.layers[-1].dtype_policy.name == "mixed_float16"
    assert np.isfinite(run.history["loss"]).all()
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.usefixtures("tiny")
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has no XLA here")
def test_xla(data):
    assert train_classifier(data=data, xla=True, **TINY).model.jit_compile is True


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("freeze_epochs", "is_trained"), [(0, True), (1, False)])
def test_freeze_epochs(data, freeze_epochs, is_trained):
    given = {**TINY, **FINE_TUNING, "freeze_epochs": freeze_epochs}
    run = train_classifier(data=data, **given)
    keras.utils.set_random_seed(0)
    initial = tiny_classifier("tiny", 2, (32, 32, 3))
    for name, may_train in (("backbone", is_trained), ("head", True)):
        ours, theirs = (model.get_layer(name).get_weights()[0] for model in (run.model, initial))
        assert np.array_equal(ours, theirs) == (not may_train)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("decay_epochs", "rate"), [(1, 0.001), (2, 0.01)])
def test_decay_epochs(data, decay_epochs, rate):
    given = {**TINY, **PAPER, "epochs": 2, "decay_epochs": decay_epochs}
    optimizer = train_classifier(data=data, **given).model.optimizer
    # As it was in the last step.
    optimizer.iterations.assign(optimizer.iterations - 1)
    assert float(optimizer.learning_rate) == pytest.approx(rate)


# The network is that of the arguments.


def build(data, **given):
    task = task_of(data=data, **given)
    return task.build(task.load())


def backbone_of(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def test_the_default_network(data):
    model = build(data, backbone=None, image_size=64)
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 2)
    assert model.name == "resnet14"
    sites = [layer.name for layer in model.layers if isinstance(layer, CBAM)]
    assert sites == [f"layer{stage}_{block}_bn2_cbam" for stage in (1, 2, 3) for block in (0, 1)]
    assert all(model.get_layer(site).start_as_identity for site in sites)
    # Maps of at least 7 x 7 positions for images of 32 pixels.
    assert model.get_layer("layer3_1_relu").output.shape[1:] == (16, 16, 64)
    # Its statistics follow within the few steps of a short training.
    momenta = {
        layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.9}


@pytest.mark.parametrize(
    ("attention", "where", "expected"),
    [
        ("cbam", "conv_pw_13_relu", {"conv_pw_13_relu_cbam": CBAM}),
        ("cbam", ["conv_pw_1_relu"], {"conv_pw_1_relu_cbam": CBAM}),
        ("bam", "conv_pw_13_relu", {"conv_pw_13_relu_bam": BAM}),
        ("control", "conv_pw_13_relu", {"conv_pw_13_relu_control": ConvolutionControl}),
        ("none", None, {}),
    ],
)
def test_attention_and_where(data, attention, where, expected):
    given = {**MOBILENET, "attention": attention, "where": where}
    backbone = backbone_of(build(data, **given))
    assert backbone.name == "mobilenet_0.25_32"
    found = {
        layer.name: type(layer) for layer in backbone.layers if isinstance(layer, AttentionLayer)
    }
    assert found == expected


def test_attention_of_a_callable_and_a_config_with_objects(data):
    sites = []

    def attention(site):
        sites.append(site)
        config = {"kernel_initializer": keras.initializers.HeNormal(), "kernel_size": 5}
        return {"class_name": "cbam", "config": config}

    backbone = backbone_of(build(data, **{**MOBILENET, "attention": attention}))
    assert sites == ["conv_pw_13_relu"]
    assert backbone.get_layer("conv_pw_13_relu_cbam").kernel_size == 5


def test_weights_of_a_file(data, tmp_path):
    first = build(data, **MOBILENET, seed=3)
    first.save(tmp_path / "first.keras")
    model = build(data, weights=tmp_path / "first.keras", **MOBILENET)
    for ours, theirs in zip(
        backbone_of(model).get_weights(), backbone_of(first).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # Statistics that are worth keeping.
    assert backbone_of(model).get_layer("conv1_bn").momentum == 0.99


def test_networks_of_the_paper(data):
    given = {**PAPER, "backbone_arguments": {"stem": "cifar", "width": 0.125}}
    for attention, count in (("cbam", 8), ("none", 0)):
        model = build(data, attention=attention, **given)
        assert sum(isinstance(layer, CBAM) for layer in model.layers) == count
        assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 2))
    assert model.get_layer(index=-1).units == 2
    assert model.count_params() < 300_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "Received: epochs=0"),
        ({"data": "nowhere.npz"}, r"nowhere\.npz"),
        ({"backbone": "MobilNet"}, "Did you mean 'MobileNet'"),
        ({"attention": "cbma"}, "Did you mean 'cbam'"),
        ({"where": "conv_pw_99"}, "matches 'conv_pw_99' by its whole name"),
        ({"backbone_arguments": {"alfa": 1}}, r"MobileNet does not take .*'alfa': 1"),
        ({"weights": "nowhere.npz"}, r"Received: weights='nowhere\.npz'"),
        ({"distribute": "both"}, "Received: distribute='both'"),
        ({"recipe": "paper", "backbone": "VGG16"}, "Unknown network of the CBAM paper"),
        ({**PAPER, "attention": "cbma"}, "Did you mean 'cbam'"),
        ({**PAPER, "backbone_arguments": {"alfa": 1}}, r"ResNet18 does not take .*'alfa': 1"),
        ({**PAPER, "backbone_arguments": {"stem": "x"}}, "Received: stem='x'"),
    ],
)
def test_bad_arguments_leave_nothing_behind(data, given, message, tmp_path):
    network = {} if "recipe" in given else MOBILENET
    with pytest.raises(ValueError, match=message):
        train_classifier(**{"data": data, "output": tmp_path / "run", **TINY, **network, **given})
    assert not list(tmp_path.iterdir())


# Resume.


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "given",
    [
        {"augment": "crop", "class_weights": "balanced", "label_smoothing": 0.1},
        {**FINE_TUNING, "freeze_epochs": 1},
        {**PAPER, "decay_epochs": 1},
    ],
)
def test_every_recipe_is_resumed_by_its_folder_alone(data, given, tmp_path, monkeypatch):
    monkeypatch.setattr(ClassificationTask, "artefacts", lambda *_: {})
    given = {"data": data, **TINY, **given, "epochs": 2}
    whole = train_classifier(**given)
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(TrainingStopped, match="after 1 epochs and 2 steps"):
            train_classifier(output=tmp_path / "run", **given)
    run = train_classifier(resume=tmp_path / "run")
    assert_alike(run, whole)
    assert run.report["accuracy"] == whole.report["accuracy"]


# Images that cannot be read.


@pytest.fixture
def folder(tmp_path):
    return make_imagenet(tmp_path / "images", classes=2, train=12, val=3)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("part", ["train", "val"])
def test_an_image_that_is_cut_short_is_skipped(folder, part):
    path = cut_short(folder / part / "n01" / "1.png")
    if part == "val":
        # One in ten may be.
        for label in ("n00", "n01"):
            for index in range(3, 8):
                shutil.copy(folder / part / label / "0.png", folder / part / label / f"{index}.png")
    run = train_classifier(data=folder, **{**TINY, "epochs": 2})
    (line,) = run.report["data"]["skipped"]
    assert line.startswith(f"{path}: ")
    assert "truncated" in line
    assert len(run.history["loss"]) == 2
    assert np.sum(run.report["confusion_matrix"]) == (6 if part == "train" else 15)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("damaged", "strict", "message"),
    [
        (3, False, r"of 24 images cannot be read, the first is .*n01/\d.png: .*truncated"),
        (1, True, r"1 of 24 images cannot be read, the first is .*n01/0.png: .*truncated"),
    ],
)
def test_too_many_of_them_end_the_training(folder, damaged, strict, message):
    for index in range(damaged):
        cut_short(folder / "train" / "n01" / f"{index}.png")
    with pytest.raises(DataError, match=message):
        train_classifier(data=folder, strict=strict, **TINY)


# Models of one's own.


def test_fit_classifier(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tiny_classifier("tiny", 2, (32, 32, 3))
    loaded = task_of(data=data).load()
    before = {layer.name: layer.trainable for layer in model._flatten_layers()}
    history = fit_classifier(
        model, loaded, recipe="fine-tuning", freeze_epochs=1, **{**TINY, "epochs": 2}
    )
    assert set(history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    assert len(history["loss"]) == 2
    assert {layer.name: layer.trainable for layer in model._flatten_layers()} == before
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Received: epochs=0"):
        fit_classifier(model, loaded, epochs=0)


def test_fit_classifier_says_what_cannot_be_read(folder):
    for index in range(3):
        cut_short(folder / "train" / "n01" / f"{index}.png")
    loaded = task_of(data=folder).load()
    with pytest.raises(DataError, match=r"of 24 images cannot be read, the first is .*n01/\d\.png"):
        fit_classifier(tiny_classifier("", 2, (32, 32, 3)), loaded, **TINY)


def test_signature():
    parameters = inspect.signature(train_classifier).parameters
    assert parameters["seed"].default == 0
    with pytest.raises(TypeError, match=r"Unknown argument `backbon`\. Did you mean 'backbone'"):
        train_classifier(backbon="MobileNet")
