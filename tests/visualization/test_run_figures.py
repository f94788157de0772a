import types

import keras
import numpy as np
import pytest

from keras_cbam.visualization import plot_comparison, plot_confusion_matrix, plot_learning_curves
from tests.visualization.saved_figures import saved


def test_learning_curves_without_accuracy(tmp_path):
    history = keras.callbacks.History()
    history.history = {"loss": np.array([1.0, 0.5])}
    figure = plot_learning_curves(history)
    saved(figure, tmp_path / "curves.png")
    assert [len(axis.lines) for axis in figure.axes] == [1]
    with pytest.raises(ValueError, match=r"none of the metrics.*'accuracy'.*Received: \['top'\]"):
        plot_learning_curves({"top": [1.0]})


@pytest.mark.parametrize("prefixes", [[""], ["", "val_"]])
def test_learning_curves(prefixes, tmp_path):
    history = {prefix + name: [0.5, 0.25] for prefix in prefixes for name in ("loss", "accuracy")}
    history["val_loss"] = [0.75, 0.375]
    figure = plot_learning_curves(history)
    saved(figure, tmp_path / "curves.png")
    loss, accuracy = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["Loss", "Accuracy"]
    assert [list(line.get_ydata()) for line in loss.lines] == [[0.5, 0.25], [0.75, 0.375]]
    assert [list(line.get_xdata()) for line in loss.lines] == [[1, 2], [1, 2]]
    assert [text.get_text() for text in loss.texts] == ["0.250", "0.375"]
    assert [text.get_va() for text in loss.texts] == ["top", "bottom"]
    assert [text.get_text() for text in accuracy.texts] == ["0.250"] * len(prefixes)
    labels = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert labels == ["training", "validation"][: len(prefixes)]


def test_curves_of_four_metrics_are_two_rows_of_two(tmp_path):
    figure = plot_learning_curves({name: [1.0, 2.0] for name in "abc"}, "abc")
    width, height = saved(figure, tmp_path / "curves.png")
    assert len(figure.axes) == 3
    assert (width, height) == (7.2 * 160, 5.6 * 160)


@pytest.mark.parametrize("classes", [1, 2, 10, 21, 50, 200])
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
    # A cell of no image is blank.
    assert [text.get_text() for text in axis.texts] == (
        [str(count) for count in matrix.ravel() if count] if is_numbered else []
    )
    right, total = matrix.trace(), matrix.sum()
    part = f"{right / max(total, 1):.1%}"
    assert axis.get_title() == f"{right} of {total} images right, {part}"
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


def test_a_matrix_with_strange_names(tmp_path):
    names = ["Soft-coated wheaten terrier from somewhere", "b" * 60, "$x_$ cost", "a/b"]
    saved(plot_confusion_matrix(np.eye(4, dtype=int), names), tmp_path / "matrix.png")


@pytest.mark.parametrize("margin", [None, 0.0126])
def test_a_comparison_says_its_numbers(margin, tmp_path):
    values = {"none": [0.8, 0.82], "cbam": [0.83, 0.85]}
    difference = types.SimpleNamespace(attention="cbam", mean=0.03, margin=margin)
    figure = plot_comparison(values, "accuracy", [difference])
    saved(figure, tmp_path / "comparison.png")
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == ["0.810", "0.840"]
    told = "+0.030" if margin is None else "+0.030\n± 0.013"
    assert [text.get_text() for text in right.texts] == [told]
    assert right.get_title() == ("one seed" if margin is None else "95 % interval")
    assert right.get_ylabel() == "accuracy minus that of none"
