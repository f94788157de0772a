import numpy as np
import pytest

from keras_cbam.detection import (
    clothing_scenes,
    coco_metrics,
    plot_detections,
    plot_precision_recall,
    precision_recall,
)
from keras_cbam.detection.figures import class_colour
from tests.detection.sets import detected, random_case

IMAGE = np.full((60, 100, 3), 128, "uint8")


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_boxes_and_labels():
    found = detected(
        [[10, 10, 50, 50], [20, 20, 90, 55], [0, 0, 5, 5]], [0, 1, 0], [0.87, 0.5, 0.4]
    )
    truth = (np.array([[10, 10, 50, 52.0]]), np.array([1]))
    figure = plot_detections(
        [IMAGE], [found], ["Bag", "$x$ of a very long name, which is cut"], [truth]
    )
    above, below = figure.axes
    assert texts(above) == ["$x$ of a very long name, ..."]
    assert texts(below) == ["Bag 0.87", "$x$ of a very long name, ... 0.50"]
    assert (above.get_title(), below.get_title()) == ("objects: 1", "found at 0.5 or more: 2")
    (box,) = above.patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (9.5, 9.5, 40, 42)
    first, second = below.patches
    assert first.get_edgecolor()[:3] == pytest.approx(class_colour(0))
    assert second.get_edgecolor()[:3] == box.get_edgecolor()[:3] == pytest.approx(class_colour(1))


def test_no_image():
    with pytest.raises(ValueError, match="`images` must have an image"):
        plot_detections([], [], ["Bag"])


def test_labels_are_inside_and_apart():
    boxes = [[0, 0, 40, 40], [1, 1, 41, 41], [60, 0, 100, 30], [70, 40, 100, 60], [0, 50, 9, 60]]
    figure = plot_detections([IMAGE], [detected(boxes, [0, 1, 2, 3, 4])], None)
    (axis,) = figure.axes
    figure.draw_without_rendering()
    places = [text.get_window_extent() for text in axis.texts]
    image = axis.get_window_extent().padded(3)
    for index, place in enumerate(places):
        assert image.x0 <= place.x0
        assert place.x1 <= image.x1
        assert image.y0 <= place.y0
        assert place.y1 <= image.y1
        assert not any(place.overlaps(other) for other in places[:index])


def test_several_images_and_none_found():
    scenes = clothing_scenes(5, "test", 32)
    figure = plot_detections(
        list(scenes.images),
        [detected()] * 5,
        scenes.class_names,
        list(zip(scenes.boxes, scenes.classes)),
    )
    assert len(figure.axes) == 16
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(drawn) == 10
    boxes = sum(len(axis.patches) for axis in drawn)
    assert boxes == sum(map(len, scenes.classes)) > 0


def test_colours_differ():
    assert len({class_colour(index) for index in range(80)}) == 80


def test_curves_have_the_average_precision():
    truth, found = random_case(np.random.default_rng(0))
    curves, metrics = precision_recall(truth, found), coco_metrics(truth, found)
    assert set(curves) == set(truth.class_names)
    for name, curve in curves.items():
        assert curve.shape == (101,)
        assert (np.diff(curve) <= 0).all()
        assert curve.mean() == pytest.approx(metrics["per_class"][name]["AP50"])
    whole, *panels = plot_precision_recall(curves).axes
    assert whole.get_title() == f"mean of 3 classes {metrics['AP50']:.2f}"
    names = [axis.get_title().rsplit(" ", 1)[0] for axis in panels]
    assert sorted(names) == sorted(curves)
    for name, axis in zip(names, panels):
        grey, own = (line.get_ydata() for line in axis.lines)
        np.testing.assert_array_equal(own, curves[name])
        np.testing.assert_allclose(grey, whole.lines[1].get_ydata())


def test_class_without_objects_has_no_curve():
    truth, found = random_case(np.random.default_rng(0), classes=2)
    truth.class_names.append("cow")
    assert set(precision_recall(truth, found)) == {"class 0", "class 1"}


@pytest.mark.parametrize(("classes", "drawn"), [(0, 0), (1, 1), (10, 10), (80, 20)])
def test_curves_have_a_panel_each_and_one_scale(classes, drawn):
    curves = {f"class ${i}$": np.linspace(1, 0, 101) * i / 80 for i in range(classes)}
    figure = plot_precision_recall(curves)
    figure.draw_without_rendering()
    assert len(figure.axes) == drawn + 1
    assert {(*axis.get_xlim(), *axis.get_ylim()) for axis in figure.axes} == {(0, 1, 0, 1.03)}
    precisions = [axis.lines[1].get_ydata().mean() for axis in figure.axes[1:]]
    assert precisions == sorted(precisions, reverse=True)
    if drawn:
        assert precisions[0] == pytest.approx((classes - 1) / 160)
        assert precisions[-1] == 0
    # Each column has its recalls written below it.
    columns = {axis.get_subplotspec().colspan.start: axis for axis in figure.axes}
    for lowest in columns.values():
        assert all(label.get_visible() for label in lowest.get_xticklabels())


def test_classes_of_one_long_name_keep_their_curves():
    name = "a garment with a very long name, number "
    curves = {f"{name}{i}": np.full(101, i / 2) for i in range(3)}
    _, *axes = plot_precision_recall(curves).axes
    assert [axis.lines[1].get_ydata()[0] for axis in axes] == [1, 0.5, 0]
