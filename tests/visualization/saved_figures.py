"""Saves a figure, and checks that a stranger can read all of it."""

import pytest
from matplotlib.figure import Figure
from PIL import Image


def saved(figure, path):
    """The size of the figure as a PNG; nothing of it may lie outside or be drawn over another."""
    assert isinstance(figure, Figure)
    assert figure.canvas.manager is None
    figure.savefig(path)
    axes = [*figure.axes, *(bar for axis in figure.axes for bar in axis.child_axes)]
    for axis in axes:
        box = axis.get_tightbbox()
        if box is not None:
            assert box.x0 >= -2, axis.get_title()
            assert box.y0 >= -2, axis.get_title()
            assert box.x1 <= figure.bbox.x1 + 2, axis.get_title()
            assert box.y1 <= figure.bbox.y1 + 2, axis.get_title()
    titles = [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
    for index, one in enumerate(titles):
        assert not any(one.overlaps(other) for other in titles[:index])
    for axis in figure.axes:
        others = [other.get_window_extent() for other in figure.axes if other is not axis]
        for text in axis.texts:
            assert not any(map(text.get_window_extent().overlaps, others)), text.get_text()
    with Image.open(path) as image:
        assert len(image.convert("L").getcolors(10000)) > 2
        # The file says how large it is to be printed.
        assert image.info["dpi"] == pytest.approx((160, 160), abs=0.5)
        assert image.size == pytest.approx(figure.get_size_inches() * 160, abs=1)
        return image.size
