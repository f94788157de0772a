import pytest

from keras_cbam.visualization import plot_learning_curves


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
    figure.savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
