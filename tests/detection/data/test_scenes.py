import itertools

import numpy as np
import pytest

import keras_cbam.detection.data.scenes as scenes_module
from keras_cbam.data.load import load_data
from keras_cbam.detection import clothing_scenes, load_detection_data


@pytest.fixture(scope="module")
def scenes():
    return clothing_scenes(60)


def test_format(scenes):
    assert scenes.images.shape == (60, 96, 96, 3)
    assert scenes.images.dtype == np.uint8
    assert scenes.class_names == load_data(None, 32).class_names
    assert {len(boxes) for boxes in scenes.boxes} >= {0, 1, 4}
    assert max(len(boxes) for boxes in scenes.boxes) <= 5
    for boxes, classes, areas, ignored in zip(
        scenes.boxes, scenes.classes, scenes.areas, scenes.ignored
    ):
        assert boxes.dtype == np.float32
        assert boxes.shape == (len(classes), 4)
        assert ((boxes >= 0) & (boxes <= 96)).all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert ((sides >= 1) & (sides <= 56)).all()
        assert (areas <= sides.prod(axis=1)).all()
        assert ((classes >= 0) & (classes < 10)).all()
        assert not ignored.any()


def test_a_scene_is_a_function_of_seed_part_and_number(scenes):
    few = clothing_scenes(5)
    np.testing.assert_array_equal(few.images, scenes.images[:5])
    for name in ("boxes", "classes", "areas"):
        for one, other in zip(getattr(few, name), getattr(scenes, name)):
            np.testing.assert_array_equal(one, other)
    assert (clothing_scenes(5, seed=1).images != few.images).any(axis=(1, 2, 3)).all()
    assert (clothing_scenes(5, "test").images != few.images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("part", ["train", "test"])
def test_garments_are_those_of_the_part(part, monkeypatch):
    # The images of the other part are black: nothing of them would be seen.
    data = load_data(None, 32)
    data.train.images.array[:] = 255 * (part == "train")
    data.test.images.array[:] = 255 * (part == "test")
    monkeypatch.setattr(scenes_module, "load_data", lambda *_: data)
    scenes_module._garments.cache_clear()
    try:
        made = clothing_scenes(20, part)
        assert sum(map(len, made.boxes)) > 20
        other = clothing_scenes(20, "test" if part == "train" else "train")
        assert sum(map(len, other.boxes)) == 0
    finally:
        scenes_module._garments.cache_clear()


def test_boxes_are_tight_around_what_is_seen(monkeypatch):
    """The garments have the flat colours 1, 2, ... by which each is told from all else."""
    place = scenes_module._place

    def flat(*arguments):
        light, alpha, window = place(*arguments)
        return np.ones_like(light), (alpha > 0.5).astype("float32"), window

    monkeypatch.setattr(scenes_module, "NOISE", 0)
    monkeypatch.setattr(scenes_module, "_place", flat)
    monkeypatch.setattr(scenes_module, "_ground", lambda size, _: np.zeros((size, size, 3), "f"))
    seen = 0
    for seed in range(30):
        colours = itertools.count(1)
        monkeypatch.setattr(scenes_module, "_tint", lambda *_, c=colours: np.full(3, next(c), "f"))
        scene = clothing_scenes(1, seed=seed)
        for number, (box, area) in enumerate(zip(scene.boxes[0], scene.areas[0]), 1):
            rows, columns = np.nonzero(scene.images[0, :, :, 0] == number)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == edges
            assert area == len(rows)
            seen += 1
        assert scene.images.max(initial=0) == len(scene.boxes[0])
    assert seen > 40


def test_hidden_garments_are_left_out(monkeypatch):
    counts = []
    for visible in (0.0, scenes_module.VISIBLE, 1.0):
        monkeypatch.setattr(scenes_module, "VISIBLE", visible)
        counts.append(sum(map(len, clothing_scenes(40).boxes)))
    assert counts[0] > counts[1] > counts[2] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "Received: count=0"),
        ({"count": 1, "part": "val"}, "Received: part='val'"),
        ({"count": 1, "image_size": 16}, "Received: image_size=16"),
        ({"count": 1, "image_size": 96.0}, "Received: image_size=96.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        clothing_scenes(**arguments)


def test_as_data():
    data = load_detection_data("scenes", seed=3, train_scenes=4, test_scenes=2, image_size=64)
    assert (len(data.train), len(data.test)) == (4, 2)
    np.testing.assert_array_equal(
        data.test.images, clothing_scenes(2, "test", image_size=64, seed=3).images
    )
