import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam import CBAM, ChannelAttention, SpatialAttention
from keras_cbam.visualization import (
    attention_maps,
    compare_grad_cam,
    grad_cam,
    plot_attention,
    plot_grad_cam,
)
from tests.visualization.models import classifier, random_images
from tests.visualization.saved_figures import saved


def titles(figure):
    return [axis.get_title() for axis in figure.axes]


def rows(figure):
    """The axes of each row, and the texts of its first column in one line."""
    places = {}
    for axis in figure.axes:
        places.setdefault(axis.get_subplotspec().rowspan.start, []).append(axis)
    for axes in places.values():
        yield axes, " ".join(" ".join(text.get_text() for text in axes[0].texts).split())


def bar_labels(axis):
    (bar,) = axis.child_axes
    return [tick.get_text() for tick in bar.get_yticklabels()]


def untrained():
    model = classifier(attention=lambda name: CBAM(start_as_identity=True, name=name))
    for layer in model.layers:
        if isinstance(layer, CBAM):
            layer.channel_attention.identity_scale.assign(0.0)
            layer.spatial_attention.identity_scale.assign(0.0)
    return model


def test_attention_of_one_image(tmp_path):
    model, image = classifier(), random_images(1)[0]
    figure = plot_attention(model, image)
    saved(figure, tmp_path / "attention.png")
    (first, told), (last, told_last) = rows(figure)
    maps = attention_maps(model, image[None])
    assert [axis.get_title() for axis in first[1:4]] == ["image", "map", "map over image"]
    spatial, channel = (maps["gate_1"].spatial.ravel(), maps["gate_1"].channel.ravel())
    numbers = [
        f"{kind} gate: {gate.min():#.3g} to {gate.max():#.3g}, deviation {gate.std():.2g}"
        for kind, gate in (("spatial", spatial), ("channel", channel))
    ]
    assert told == " ".join(["full size, block 1, 8 x 10 gate_1", *numbers])
    (drawn,) = first[2].images
    np.testing.assert_allclose(drawn.get_array(), maps["gate_1"].spatial[0, ..., 0])
    assert drawn.get_clim() == pytest.approx((spatial.min(), spatial.max()))
    assert drawn.cmap.name == "viridis"
    assert bar_labels(first[3]) == [f"{spatial.min():#.3g}", f"{spatial.max():#.3g}"]
    assert first[3].images[0].get_array().shape == (12, 10, 3)
    (curve,) = last[4].lines
    gates = np.sort(maps["gate_2"].channel.ravel())[::-1]
    np.testing.assert_allclose(curve.get_ydata(), gates)
    ends = [f"{gates[0]:#.3g}", f"{gates[-1]:#.3g}"]
    assert [text.get_text() for text in last[4].texts] == ends
    # 3 x 4 positions are numbers, not an image.
    assert told_last.startswith("stage 2, block 1, 3 x 4 gate_2 spatial gate: ")
    assert not last[2].images
    assert not last[3].images
    assert [text.get_text() for text in last[2].texts] == ["map under 4 x 4:\nsee its numbers"]


def test_attention_of_a_batch_and_of_chosen_layers(tmp_path):
    figure = plot_attention(classifier(), random_images(3), layers=".*1")
    saved(figure, tmp_path / "attention.png")
    assert [told.split(" spatial")[0] for _, told in rows(figure)] == [
        "full size, block 1, 8 x 10 gate_1"
    ] * 3


def test_the_last_layer_of_each_size_and_its_place_among_all():
    inputs = x = keras.Input((8, 8, 3))
    for index in range(4):
        x = keras.layers.Conv2D(4, 3, strides=1 + index // 3, padding="same")(x)
        x = CBAM(name=f"gate_{index}")(x)
    model, image = keras.Model(inputs, x), random_images(1, (8, 8))[0]
    expected = ["full size, block 3, 8 x 8 gate_2", "stage 1, block 1, 4 x 4 gate_3"]
    for layers, count in ((None, 2), (["gate_2", "gate_3"], 2), (".*", 4)):
        told = [told.split(" spatial")[0] for _, told in rows(plot_attention(model, image, layers))]
        assert told[-2:] == expected
        assert len(told) == count


@pytest.mark.parametrize("attention", [ChannelAttention, SpatialAttention])
def test_attention_with_one_gate(attention, tmp_path):
    figure = plot_attention(classifier(attention=attention), random_images(1)[0])
    saved(figure, tmp_path / "attention.png")
    axes, told = next(rows(figure))
    if attention is ChannelAttention:
        assert told.startswith("block 1, 8 channels gate_1 channel gate: ")
        assert [text.get_text() for text in axes[2].texts] == ["no spatial gate"]
        assert axes[4].get_title() == "8 channels, sorted"
    else:
        assert told.startswith("full size, block 1, 8 x 10 gate_1 spatial gate: ")
        assert "channel" not in told
        assert len(axes) == 4


def test_the_colours_of_an_identity_diverge_around_1(tmp_path):
    figure = plot_attention(
        classifier(attention=lambda name: CBAM(start_as_identity=True, name=name), seed=1),
        random_images(1)[0],
    )
    saved(figure, tmp_path / "attention.png")
    assert figure.get_suptitle() == ""
    axes, _ = next(rows(figure))
    (drawn,) = axes[2].images
    low, high = drawn.get_clim()
    assert drawn.cmap.name == "RdBu_r"
    assert low + high == pytest.approx(2)
    assert max(1 - drawn.get_array().min(), drawn.get_array().max() - 1) == pytest.approx(high - 1)
    assert bar_labels(axes[3])[1] == "1.00"


def test_attention_that_is_not_trained(tmp_path):
    same = untrained()
    figure = plot_attention(same, random_images(1)[0])
    saved(figure, tmp_path / "attention.png")
    assert figure.get_suptitle() == "The attention is not trained yet: each gate is exactly 1."
    axes, told = next(rows(figure))
    assert told.endswith("spatial gate: 1.00 everywhere channel gate: 1.00 everywhere")
    assert axes[2].images[0].get_clim() == pytest.approx((0.95, 1.05))
    mixed = keras.Model(same.input, CBAM(name="paper")(same.get_layer("gate_2").output))
    assert plot_attention(mixed, random_images(1)[0]).get_suptitle() == ""


def test_an_attention_with_a_residual_changes_nothing_at_0():
    model = classifier(
        attention=lambda name: CBAM(residual=True, start_as_identity=True, name=name)
    )
    axes, _ = next(rows(plot_attention(model, random_images(1)[0])))
    assert axes[2].images[0].cmap.name == "viridis"


@pytest.mark.parametrize(
    "image",
    [
        random_images(1)[0],
        random_images(1)[0] / 255.0,
        random_images(1)[0] / 127.5 - 1,
        random_images(1, (40, 60))[0],
        random_images(1, channels=1)[0],
        random_images(1, channels=1)[0, ..., 0],
    ],
    ids=["uint8", "unit", "preprocessed", "size", "grey", "flat"],
)
def test_images_of_every_kind(image, tmp_path):
    model = classifier()
    for figure in (plot_attention(model, image), plot_grad_cam(model, image)):
        saved(figure, tmp_path / "figure.png")
        shown = next(axis for axis in figure.axes if axis.get_title().startswith("image"))
        pixels = shown.images[0].get_array()
        assert pixels.shape == (*image.shape[:2], 3)
        assert 0 <= pixels.min() <= 0.1
        assert 0.9 <= pixels.max() <= 1


def test_grad_cam_says_its_class_and_layer(tmp_path):
    model, image = classifier(), random_images(1)[0]
    probabilities = model.predict(image[None], verbose=0)[0]
    names = ["cat", "dog", "hen", "cow"]
    best = probabilities.argmax()
    figure = plot_grad_cam(model, image, class_names=names)
    saved(figure, tmp_path / "grad_cam.png")
    ((axes, told),) = rows(figure)
    method = "gate_1 Grad-CAM, relative to its maximum from 8 x 10 positions"
    assert told == f"{names[best]}: {probabilities[best]:.2f} {method}"
    np.testing.assert_array_equal(axes[2].images[0].get_array(), grad_cam(model, image[None])[0])
    assert axes[2].images[0].get_clim() == (0, 1)
    assert bar_labels(axes[3]) == ["0.00", "1.00"]
    ((_, told),) = rows(plot_grad_cam(model, image, class_index=2, layer="gate_2"))
    assert told.startswith(f"class 2: {probabilities[2]:.2f} gate_2 ")


def test_long_and_strange_names(tmp_path):
    long = "Soft-coated wheaten terrier from the county of somewhere else"
    names = [long, "b" * 60, "$x_$ cost", "a/b"]
    models = {long: classifier(), "c" * 50: classifier()}
    figure = compare_grad_cam(models, random_images(2), class_index=[0, 1], class_names=names)
    saved(figure, tmp_path / "comparison.png")
    saved(
        plot_grad_cam(classifier(), random_images(1)[0], 2, class_names=names), tmp_path / "one.png"
    )
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, CBAM(name="d" * 60)(inputs))
    saved(plot_attention(model, random_images(1, (8, 8))), tmp_path / "attention.png")
    with pytest.raises(ValueError, match=r"each of the 4 classes. Received: 2 names"):
        plot_grad_cam(classifier(), random_images(1)[0], class_names=["a", "b"])


def test_an_image_of_one_value(tmp_path):
    saved(plot_attention(classifier(), np.full((12, 10, 3), -1.0)), tmp_path / "figure.png")


def test_comparison(tmp_path):
    models = {"plain": classifier(attention=None), "SE": classifier(attention=ChannelAttention)}
    images = [random_images(1)[0], random_images(1, (30, 20), channels=1)[0]]
    figure = compare_grad_cam({**models, "CBAM": classifier()}, images, class_index=[1, 3])
    saved(figure, tmp_path / "comparison.png")
    assert all(title.endswith("_1, 8 x 10") for title in titles(figure) if "SE" in title)
    assert all(title.endswith("first, 8 x 10") for title in titles(figure) if "plain" in title)
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
        (lambda model: plot_grad_cam(model, random_images(1)[0], 9), r"Received: class_index=9"),
        (lambda model: compare_grad_cam({}, random_images(1)), r"no model to compare"),
        (lambda model: compare_grad_cam([model], random_images(2), [1]), r"1 classes for 2 images"),
        (
            lambda model: plot_attention(classifier(attention=None), random_images(1)),
            r"no attention",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(classifier())


def test_a_model_of_two_inputs():
    inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
    model = keras.Model(inputs, CBAM()(keras.layers.Add()(inputs)), name="pair")
    with pytest.raises(ValueError, match=r"models with one input.*'pair' with 2 inputs"):
        plot_attention(model, random_images(1, (8, 8)))


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
