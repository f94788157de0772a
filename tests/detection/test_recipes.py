import keras
import numpy as np
import pytest

from keras_cbam import CBAM
from keras_cbam.classification import train_classifier
from keras_cbam.detection import (
    DetectionTask,
    DetectorArguments,
    build_detector,
    load_detector,
    train_detector,
)
from keras_cbam.detection.arguments import DETECTORS, PAPER
from keras_cbam.detection.recipes import freeze_batch_norm, recipe_phases, take_weights
from keras_cbam.errors import WeightsError
from tests.detection.folders import voc_object, voc_xml, write_many, write_voc
from tests.detection.networks import BOXES, IMAGES, tiny_detector
from tests.detection.tiny import train_tiny

LEVELS = ("level1", "level2", "level3")


@pytest.fixture
def weights(tmp_path):
    """A classifier that has the layers of the tiny detector's backbone."""
    x = inputs = keras.Input((None, None, 3))
    for name in LEVELS:
        x = keras.layers.Conv2D(8, 3, 2, "same", name=name, bias_initializer="ones")(x)
    x = keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(inputs, x).save(tmp_path / "classifier.keras")
    return tmp_path / "classifier.keras"


def paper(weights, **given):
    return DetectorArguments.given(recipe="paper", weights=weights, **given)


@pytest.fixture
def model():
    return tiny_detector("ssd", 2, 64, "small", "cbam")


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        ("ssd", (300, None, 32, 120_000, (80_000, 100_000), 5e-4, "vgg16", "ssd")),
        ("stairnet", (300, None, 32, 120_000, (80_000, 100_000), 5e-4, "vgg16", "ssd")),
        ("faster_rcnn", (1000, (600,), 1, 490_000, (350_000,), 1e-4, "ResNet50", "flip")),
    ],
)
def test_the_numbers_of_the_papers(weights, detector, expected):
    found = paper(weights, detector=detector)
    names = ("image_size", "short_side", "batch_size", "iterations", "decay_iterations")
    names += ("weight_decay", "backbone", "augment")
    assert tuple(getattr(found, name) for name in names) == expected
    assert (found.learning_rate, found.epochs, found.freeze_batch_norm) == (1e-3, None, True)


def compiled(arguments, model, steps):
    (phase,) = recipe_phases(arguments, model, steps)
    assert phase.epochs == arguments.epochs
    return phase.compiled()


def test_the_rate_drops_where_the_papers_does(weights, model):
    """After 8 and 10 of 12 epochs of 5 steps; the step after a drop is the first at the new one."""
    with compiled(paper(weights, epochs=12), model, 5):
        optimizer = model.optimizer
        assert type(optimizer) is keras.optimizers.SGD
        assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (
            0.9,
            False,
            None,
        )
        rates = [float(optimizer._learning_rate(step)) for step in (0, 39, 40, 49, 50, 59)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_other_drops(weights, model):
    given = {"epochs": 2, "iterations": 10, "decay_iterations": "3,5,6"}
    with compiled(paper(weights, **given), model, 5):
        rates = [float(model.optimizer._learning_rate(step)) for step in range(7)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6], rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_kernels_decay_in_the_gradient_and_biases_do_not(weights, decay):
    """Beside a loss of nothing: one step is `-rate * decay * w`."""
    model = tiny_detector("ssd", 2, 64, "small", "cbam")
    variables = model.trainable_variables

    def loss(*_, **__):
        return sum([*(0 * keras.ops.sum(each) for each in variables), *model.losses])

    model.compute_loss = loss
    before = [np.array(variable) for variable in model.trainable_variables]
    with compiled(paper(weights, epochs=1, weight_decay=decay), model, 1):
        model.run_eagerly = True
        model.fit(IMAGES, BOXES, batch_size=2, verbose=0)
    for variable, old in zip(model.trainable_variables, before):
        kept = 1 - 1e-3 * decay if old.ndim > 1 else 1
        np.testing.assert_allclose(variable, kept * old, rtol=1e-6)
        assert variable.regularizer is None


@pytest.mark.parametrize(("iterations", "epochs"), [(1, 1), (7, 2), (8, 3), (30, 10)])
def test_iterations_are_whole_epochs(weights, iterations, epochs):
    """Of three steps."""
    given = {"iterations": iterations, "decay_iterations": 1, "batch_size": 4}
    task = DetectionTask(paper(weights, train_scenes=10, test_scenes=2, image_size=32, **given))
    task.load()
    assert task.arguments.epochs == epochs


def test_frozen_batch_norm_keeps_its_statistics_and_attention_learns():
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3)(x))
    x = CBAM(use_batch_norm=True, name="cbam")(x)
    outputs = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    freeze_batch_norm(model)
    model.compile("sgd", "mse")
    before = {layer.name: layer.get_weights() for layer in model.layers}
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    model.fit(images, np.ones((4, 1)), verbose=0)
    for old, new in zip(before["norm"], model.get_layer("norm").get_weights()):
        np.testing.assert_array_equal(old, new)
    moved = zip(before["cbam"], model.get_layer("cbam").get_weights())
    assert any((old != new).any() for old, new in moved)
    names = [variable.path for variable in model.get_layer("cbam").trainable_variables]
    assert any("gamma" in name for name in names)


def test_layers_are_taken_by_name_and_shapes(weights, model):
    report = take_weights(model.backbone, weights)
    assert report == {"file": str(weights), "layers_taken": 3, "layers_left": []}
    for name in LEVELS:
        assert (model.backbone.get_layer(name).get_weights()[1] == 1).all()


def test_layers_of_other_shapes_are_left(weights, model, tmp_path):
    other = keras.Sequential(
        [keras.Input((9, 9, 3)), *(keras.layers.Conv2D(8, 3, name=name) for name in LEVELS[:2])]
    )
    other.add(keras.layers.Conv2D(5, 3, name="level3"))
    other.save(tmp_path / "other.keras")
    before = model.backbone.get_layer("level3").get_weights()
    report = take_weights(model.backbone, tmp_path / "other.keras")
    assert (report["layers_taken"], report["layers_left"]) == (2, ["level3"])
    for old, new in zip(before, model.backbone.get_layer("level3").get_weights()):
        np.testing.assert_array_equal(old, new)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "none.keras")
    message = r"none\.keras' has no layer with the name and the shapes of one of the 3 .*'level1'"
    with pytest.raises(WeightsError, match=message):
        take_weights(model.backbone, tmp_path / "none.keras")


@pytest.mark.slow
def test_a_detector_starts_from_the_run_of_a_classifier(tmp_path, capsys):
    network = {"backbone": "MobileNet", "image_size": 32}
    data = {"x": np.zeros((8, 32, 32, 3), "uint8"), "y": np.arange(8) % 2}
    np.savez(tmp_path / "data.npz", **data)
    given = {"data": tmp_path / "data.npz", "epochs": 1, "batch_size": 4, "verbose": 0}
    trained = train_classifier(output=tmp_path / "run", **network, **given)
    arguments = {"train_scenes": 2, "test_scenes": 2, "weights": tmp_path / "run", **network}
    task = DetectionTask(DetectorArguments.given(**arguments))
    model = task.build(task.load())
    taken = task.weights_taken
    assert taken["layers_taken"] > 20
    expected = next(
        layer for layer in trained.model._flatten_layers() if layer.name == "conv_pw_3"
    ).get_weights()
    np.testing.assert_array_equal(
        model.backbone.get_layer("conv_pw_3").get_weights()[0], expected[0]
    )
    assert f"The backbone takes {taken['layers_taken']} layers of" in capsys.readouterr().out


def coco_of_ten(folder):
    return write_many(folder, 10)


def voc_of_ten(folder):
    boxed = voc_xml(voc_object("cat", (5, 5, 30, 25)))
    for year in ("VOC2007", "VOC2012"):
        write_voc(folder / year, {f"{i}": boxed for i in range(5)}, {"9": boxed})
    return folder


LAYOUTS = {"coco": coco_of_ten, "voc": voc_of_ten}


SLOW = pytest.mark.slow
OTHERS = [("faster_rcnn", "coco"), ("ssd", "coco"), ("faster_rcnn", "voc")]
OTHERS += [("stairnet", "coco"), ("stairnet", "voc")]


@pytest.mark.parametrize(
    ("detector", "layout"), [("ssd", "voc"), *(pytest.param(*each, marks=SLOW) for each in OTHERS)]
)
def test_the_papers_recipe_on_ten_images(tiny_detectors, tmp_path, weights, detector, layout):
    data = LAYOUTS[layout](tmp_path / "data")
    side = {"short_side": "24,32"} if detector == "faster_rcnn" else {}
    given = {"detector": detector, "data": data, "recipe": "paper", "weights": weights, **side}
    given |= {"epochs": None, "iterations": 10, "decay_iterations": "5,7", "batch_size": 4}
    given |= {"image_size": 64, "train_scenes": 1, "test_scenes": 1}
    run = train_tiny(**given, output=tmp_path / "run")
    assert run.report["problems"] == {}
    assert run.report["data"]["training_images"] == 10
    assert run.report["weights"]["layers_taken"] == 3
    assert run.report["arguments"]["epochs"] == len(run.history["loss"]) == 3
    assert np.isfinite(run.history["loss"] + run.history["val_loss"]).all()
    saved, _ = load_detector(run.output)
    assert saved.short_side == (32 if detector == "faster_rcnn" else None)
    again = train_tiny(resume=tmp_path / "run")
    assert again.history == run.history


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("detector", DETECTORS)
def test_the_papers_networks_learn_on_ten_images(tmp_path, detector, layout):
    """Their own backbones, from random weights in a file, at half the sizes."""
    application = "ResNet50" if detector == "faster_rcnn" else "VGG16"
    side = {"image_size": 320, "short_side": 192} if detector == "faster_rcnn" else {}
    source = getattr(keras.applications, application)(weights=None, include_top=False)
    source.save(tmp_path / "weights.keras")
    given = {"detector": detector, "data": LAYOUTS[layout](tmp_path / "data"), "epochs": 1}
    given |= {"recipe": "paper", "weights": tmp_path / "weights.keras", "batch_size": 5, **side}
    run = train_detector(**given, verbose=0)
    assert run.report["problems"] == {}
    assert run.report["weights"]["layers_taken"] >= 13
    assert np.isfinite(run.history["loss"] + run.history["val_loss"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("detector", "positions"), [("stairnet", 38), ("faster_rcnn", 250)])
def test_the_papers_networks_take_the_papers_sizes(detector, positions):
    numbers = PAPER[detector]
    model = build_detector(detector, 20, numbers["image_size"], numbers["backbone"])
    assert model.pyramid.outputs[0].shape[1:3] == (positions, positions)
