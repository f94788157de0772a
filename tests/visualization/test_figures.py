import subprocess
import sys

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_cbam import CBAM, ChannelAttention, SpatialAttention
from keras_cbam.visualization import (
    attention_maps,
    compare_grad_cam,
    plot_attention,
    plot_confusion_matrix,
    plot_grad_cam,
    plot_learning_curves,
)
from tests.visualization.models import classifier, pictures


def saved(figure, path):
    """The size of the figure as a PNG; nothing of it may lie outside or be drawn over another."""
    assert isinstance(figure, Figure)
    assert figure.canvas.manager is None
    figure.set_dpi(60)
    figure.savefig(path)
    for axis in figure.axes:
        box = axis.get_tightbbox()
        if box is not None:
            assert box.x0 >= -2, axis.get_title()
            assert box.y0 >= -2, axis.get_title()
            assert box.x1 <= figure.bbox.x1 + 2, axis.get_title()
            assert box.y1 <= figure.bbox.y1 + 2, axis.get_title()
    titles = [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
    for index, one in enumerate(titles):
        assert not any(one.overlaps(other) for other in titles[:index])
    with Image.open(path) as image:
        assert len(image.convert("L").getcolors(10000)) > 2
        return image.size


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def test_learning_curves_without_accuracy(tmp_path):
    history = keras.callbacks.History()
    history.history = {"loss": np.array([1.0, 0.5])}
    figure = plot_learning_curves(history)
    saved(figure, tmp_path / "curves.png")
    assert [len(axis.lines) for axis in figure.axes] == [1, 0]


@pytest.mark.parametrize("prefixes", [[""], ["", "val_"]])
def test_learning_curves(prefixes, tmp_path):
    history = {prefix + name: [0.5, 0.25] for prefix in prefixes for name in ("loss", "accuracy")}
    figure = plot_learning_curves(history)
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy"]
    for axes in figure.axes:
        assert axes.get_xlabel() == "Epoch"
        assert [list(line.get_ydata()) for line in axes.lines] == [[0.5, 0.25]] * len(prefixes)
        assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2]] * len(prefixes)
        assert len(axes.get_legend().get_texts()) == len(prefixes)
    saved(figure, tmp_path / "curves.png")


def test_attention_of_one_picture(tmp_path):
    model, picture = classifier(), pictures(1)[0]
    figure = plot_attention(model, picture)
    saved(figure, tmp_path / "attention.png")
    assert "image\n10 x 12" in titles(figure)
    assert {"gate_1\n8 x 10", "gate_2\n3 x 4"} <= set(titles(figure))
    maps = attention_maps(model, picture[None])
    for name, scores in maps.items():
        (axis,) = (axis for axis in figure.axes if axis.get_title().startswith(name))
        grey, overlay = axis.images
        assert overlay.get_clim() == pytest.approx((scores.spatial.min(), scores.spatial.max()))
        assert overlay.get_array().shape == grey.get_array().shape == (12, 10)
        assert overlay.cmap.name == "viridis"
    bars = [axis for axis in figure.axes if axis.get_xlabel() == "channel gate"]
    gates = maps["gate_2"].channel.ravel()
    strongest = np.argsort(-gates)[:8]
    assert [bar.get_width() for bar in bars[1].patches] == pytest.approx(gates[strongest].tolist())
    assert [tick.get_text() for tick in bars[1].get_yticklabels()] == list(map(str, strongest))
    assert [axis.get_xlabel() for axis in figure.axes].count("spatial gate") == 2


def test_attention_of_a_batch_and_of_chosen_layers(tmp_path):
    figure = plot_attention(classifier(), pictures(3), layers=".*1")
    saved(figure, tmp_path / "attention.png")
    assert titles(figure).count("gate_1\n8 x 10") == 3
    assert not any("gate_2" in title for title in titles(figure))


def test_one_column_for_each_size():
    inputs = x = keras.Input((8, 8, 3))
    for index in range(4):
        x = keras.layers.Conv2D(4, 3, strides=1 + index // 3, padding="same")(x)
        x = CBAM(name=f"gate_{index}")(x)
    shown = titles(plot_attention(keras.Model(inputs, x), pictures(1, (8, 8))[0]))
    assert [title for title in shown if "gate" in title] == ["gate_2\n8 x 8", "gate_3\n4 x 4"]
    every = plot_attention(keras.Model(inputs, x), pictures(1, (8, 8))[0], layers=".*")
    assert sum("gate" in title for title in titles(every)) == 4


@pytest.mark.parametrize("attention", [ChannelAttention, SpatialAttention])
def test_attention_with_one_gate(attention, tmp_path):
    figure = plot_attention(classifier(attention=attention), pictures(1)[0])
    saved(figure, tmp_path / "attention.png")
    assert any(title.startswith("gate_2") for title in titles(figure))
    labels = {axis.get_xlabel() for axis in figure.axes} - {""}
    assert labels == ({"channel gate"} if attention is ChannelAttention else {"spatial gate"})


def test_attention_that_is_an_identity(tmp_path):
    figure = plot_attention(
        classifier(attention=lambda name: CBAM(start_as_identity=True, name=name), seed=1),
        pictures(1)[0],
    )
    saved(figure, tmp_path / "attention.png")
    assert {part.get_suptitle() for part in figure.subfigs} == {""}
    same = classifier(attention=lambda name: CBAM(start_as_identity=True, name=name))
    for layer in same.layers:
        if isinstance(layer, CBAM):
            layer.channel_attention.identity_scale.assign(0.0)
            layer.spatial_attention.identity_scale.assign(0.0)
    figure = plot_attention(same, pictures(1)[0])
    saved(figure, tmp_path / "attention.png")
    assert {part.get_suptitle() for part in figure.subfigs} == {"identity: not trained yet"}
    mixed = keras.Model(same.input, CBAM(name="paper")(same.get_layer("gate_2").output))
    assert {part.get_suptitle() for part in plot_attention(mixed, pictures(1)[0]).subfigs} == {""}
    overlays = [axis.images[1] for axis in figure.axes if "gate_" in axis.get_title()]
    assert {overlay.get_clim() for overlay in overlays} == {(0.5, 1.5)}


@pytest.mark.parametrize(
    "picture",
    [
        pictures(1)[0],
        pictures(1)[0] / 255.0,
        pictures(1)[0] / 127.5 - 1,
        pictures(1, (40, 60))[0],
        pictures(1, channels=1)[0],
        pictures(1, channels=1)[0, ..., 0],
    ],
    ids=["uint8", "unit", "preprocessed", "size", "grey", "flat"],
)
def test_pictures_of_every_kind(picture, tmp_path):
    model = classifier()
    for figure in (plot_attention(model, picture), plot_grad_cam(model, picture)):
        saved(figure, tmp_path / "figure.png")
        shown = next(axis for axis in figure.axes if axis.get_title().startswith("image"))
        pixels = shown.images[0].get_array()
        assert pixels.shape == (*picture.shape[:2], 3)
        assert 0 <= pixels.min() <= 0.1
        assert 0.9 <= pixels.max() <= 1


def test_grad_cam_titles(tmp_path):
    model, picture = classifier(), pictures(1)[0]
    probabilities = model.predict(picture[None], verbose=0)[0]
    names = ["cat", "dog", "hen", "cow"]
    best = probabilities.argmax()
    figure = plot_grad_cam(model, picture, class_names=names)
    saved(figure, tmp_path / "grad_cam.png")
    assert f"Grad-CAM\n{names[best]}: {probabilities[best]:.2f}" in titles(figure)
    other = plot_grad_cam(model, picture, class_index=2)
    assert f"Grad-CAM\nclass 2: {probabilities[2]:.2f}" in titles(other)
    assert "Grad-CAM, relative to its maximum" in {axis.get_ylabel() for axis in figure.axes}


def test_long_and_strange_names(tmp_path):
    long = "Soft-coated wheaten terrier from the county of somewhere else"
    names = [long, "b" * 60, "$x_$ cost", "a/b"]
    models = {long: classifier(), "c" * 50: classifier()}
    figure = compare_grad_cam(models, pictures(2), class_index=[0, 1], class_names=names)
    saved(figure, tmp_path / "comparison.png")
    saved(plot_grad_cam(classifier(), pictures(1)[0], 2, class_names=names), tmp_path / "one.png")
    saved(plot_confusion_matrix(np.eye(4, dtype=int), names), tmp_path / "matrix.png")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, CBAM(name="d" * 60)(inputs))
    saved(plot_attention(model, pictures(1, (8, 8))), tmp_path / "attention.png")
    with pytest.raises(ValueError, match=r"each of the 4 classes. Received: 2 names"):
        plot_grad_cam(classifier(), pictures(1)[0], class_names=["a", "b"])


def test_a_picture_of_one_value(tmp_path):
    saved(plot_attention(classifier(), np.full((12, 10, 3), -1.0)), tmp_path / "figure.png")


def test_comparison(tmp_path):
    models = {"plain": classifier(attention=None), "SE": classifier(attention=ChannelAttention)}
    images = [pictures(1)[0], pictures(1, (30, 20), channels=1)[0]]
    figure = compare_grad_cam({**models, "CBAM": classifier()}, images, class_index=[1, 3])
    saved(figure, tmp_path / "comparison.png")
    shown = [title.split(":")[0] for title in titles(figure) if "class" in title]
    rows = [[f"{name}\nclass {k}" for name in ("plain", "SE", "CBAM")] for k in (1, 3)]
    assert shown == rows[0] + rows[1]
    assert titles(figure).count("image") == 2
    by_name = compare_grad_cam(list(models.values()), images[0])
    assert sum(title.startswith("functional") for title in titles(by_name)) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: plot_attention(model, np.zeros((2, 3, 4, 5, 6))), r"\(height, width\)"),
        (lambda model: plot_attention(model, np.zeros((12, 10, 7))), r"must have 3 channels"),
        (lambda model: plot_attention(model, []), r"Received: no image"),
        (lambda model: plot_grad_cam(model, pictures(1)[0], 9), r"Received: class_index=9"),
        (lambda model: compare_grad_cam({}, pictures(1)), r"no model to compare"),
        (lambda model: compare_grad_cam([model], pictures(2), [1]), r"1 classes for 2 images"),
        (lambda model: plot_attention(classifier(attention=None), pictures(1)), r"no attention"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(classifier())


def test_a_model_of_two_inputs():
    inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
    model = keras.Model(inputs, CBAM()(keras.layers.Add()(inputs)), name="pair")
    with pytest.raises(ValueError, match=r"models with one input.*'pair' with 2 inputs"):
        plot_attention(model, pictures(1, (8, 8)))


@pytest.mark.parametrize("classes", [1, 2, 10, 21, 200])
def test_confusion_matrix(classes, tmp_path):
    matrix = np.random.default_rng(0).integers(0, 50, (classes, classes))
    matrix[0] = 0
    names = [f"class with a long name {index}" for index in range(classes)]
    figure = plot_confusion_matrix(matrix.tolist(), names)
    saved(figure, tmp_path / "matrix.png")
    axis = figure.axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted class", "true class")
    drawn = axis.images[0].get_array()
    assert not drawn[0].any()
    np.testing.assert_allclose(drawn[1:].sum(axis=1), 1)
    is_numbered = classes <= 20
    assert [text.get_text() for text in axis.texts] == (
        list(map(str, matrix.ravel())) if is_numbered else []
    )
    if is_numbered:
        assert [tick.get_text() for tick in axis.get_yticklabels()] == names
    plot_confusion_matrix(matrix)


@pytest.mark.parametrize(
    ("matrix", "names", "message"),
    [
        ([[1, 2]], None, r"square.*\(1, 2\)"),
        ([], None, r"square"),
        ([[1, -2], [1, 1]], None, r"negative"),
        ([[1, 2], [1, 1]], ["cat"], r"each of the 2 classes. Received: 1 names"),
    ],
)
def test_confusion_matrix_of_bad_input(matrix, names, message):
    with pytest.raises(ValueError, match=message):
        plot_confusion_matrix(matrix, names)


def test_without_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from keras_cbam.visualization import plot_learning_curves\n"
        "try: plot_learning_curves({'loss': [1.0]})\n"
        "except ImportError as error: print(error)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert "pip install keras_cbam[plot]" in process.stdout
