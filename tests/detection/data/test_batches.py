import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbam.data import Devices, epoch_order, reading
from keras_cbam.detection import (
    clothing_scenes,
    coco_folder,
    detection_batches,
    load_detection_data,
)
from keras_cbam.errors import DataError
from tests.detection.folders import (
    coco_box,
    coco_json,
    cut_short,
    write_coco,
    write_image,
    write_many,
)
from tests.detection.sets import make_set


@pytest.fixture(scope="module")
def scenes():
    return clothing_scenes(10, image_size=48)


def as_arrays(batches):
    return [(x.numpy(), y["boxes"].numpy(), y["classes"].numpy()) for x, y in batches]


def equal(one, other):
    return all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


def test_images_and_boxes_as_they_are(scenes):
    batches = detection_batches(scenes, 4, 48)
    most = max(map(len, scenes.boxes))
    images, targets = batches.element_spec
    assert images == tf.TensorSpec((None, 48, 48, 3), tf.float32)
    assert targets["boxes"] == tf.TensorSpec((None, most, 4), tf.float32)
    assert targets["classes"] == tf.TensorSpec((None, most), tf.float32)
    arrays = as_arrays(batches)
    assert [len(each[0]) for each in arrays] == [4, 4, 2]
    assert len(batches) == 3
    images, boxes, classes = map(np.concatenate, zip(*arrays))
    np.testing.assert_array_equal(images, scenes.images)
    for i, own in enumerate(scenes.boxes):
        np.testing.assert_array_equal(boxes[i, : len(own)], own)
        np.testing.assert_array_equal(classes[i, : len(own)], scenes.classes[i])
        assert (boxes[i, len(own) :] == -1).all()
        assert (classes[i, len(own) :] == -1).all()


def test_boxes_follow_the_image(tmp_path):
    pixels = np.zeros((1, 40, 40, 3), "uint8")
    pixels[0, 8:24, 4:12] = 255
    square = make_set([[[4, 8, 12, 24]]], [[1]], size=40, images=pixels)
    ((_, boxes, _),) = as_arrays(detection_batches(square, 1, 20))
    np.testing.assert_array_equal(boxes, [[[2, 4, 6, 12]]])
    write_coco(tmp_path)
    # 40 by 30 pixels, to 20 by 15.
    ((images, boxes, _),) = as_arrays(detection_batches(coco_folder(tmp_path).test, 1, 20))
    np.testing.assert_array_equal(boxes, [[[2.5, 2.5, 5, 5]]])
    assert images.shape == (1, 20, 20, 3)


def test_ignored_boxes_are_no_targets():
    box = [1, 1, 9, 9]
    data = make_set([[box, [2, 2, 8, 8]], []], [[0, 1], []], [[True, False], []])
    ((_, boxes, classes),) = as_arrays(detection_batches(data, 2, 100))
    np.testing.assert_array_equal(boxes, [[[2, 2, 8, 8]], [[-1] * 4]])
    np.testing.assert_array_equal(classes, [[1], [-1]])


@pytest.mark.parametrize("training", [False, True])
def test_images_without_any_boxes(training):
    data = make_set([[], []], [[], []])
    ((images, boxes, classes),) = as_arrays(detection_batches(data, 2, 100, training=training))
    assert images.shape == (2, 100, 100, 3)
    np.testing.assert_array_equal(boxes, np.full((2, 1, 4), -1))
    np.testing.assert_array_equal(classes, [[-1], [-1]])


def test_an_epoch_is_a_function_of_seed_and_number(scenes):
    options = {"batch_size": 4, "image_size": 48, "training": True}
    third = detection_batches(scenes, seed=5, epoch=2, **options)
    arrays = as_arrays(third)
    assert equal(arrays, as_arrays(third))
    for other in ({"seed": 5, "epoch": 3}, {"seed": 6, "epoch": 2}):
        assert not equal(arrays, as_arrays(detection_batches(scenes, **other, **options)))
    rest = detection_batches(scenes, seed=5, epoch=2, first_step=1, **options)
    assert len(rest) == 2
    assert equal(as_arrays(rest), arrays[1:])


def test_devices_share_a_batch(scenes):
    options = {"batch_size": 4, "image_size": 48, "training": True}
    whole = as_arrays(detection_batches(scenes, **options))
    parts = [
        as_arrays(detection_batches(scenes, devices=Devices(2, 2, process), **options))
        for process in (0, 1)
    ]
    for step, one, other in zip(whole, *parts):
        for index, array in enumerate(step):
            np.testing.assert_array_equal(array, np.concatenate([one[index], other[index]]))


def test_shuffled_and_not_augmented(scenes):
    batches = detection_batches(scenes, 4, 48, training=True, augment="none")
    assert len(batches) == 3
    images = np.concatenate([each[0] for each in as_arrays(batches)])
    order, _ = epoch_order(10, seed=0, epoch=0)
    np.testing.assert_array_equal(images, scenes.images[order])


def test_augmented_in_training_only(scenes):
    plain, trained, none = (
        np.concatenate([each[0] for each in as_arrays(detection_batches(scenes, 10, 48, **more))])
        for more in ({}, {"training": True}, {"training": True, "augment": "none"})
    )
    known = {image.tobytes() for image in plain}
    assert {image.tobytes() for image in none} == known
    assert not {image.tobytes() for image in trained} & known


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "Received: batch_size=0"),
        ({"image_size": 0}, "Received: image_size=0"),
        ({"seed": -1}, "Received: seed=-1"),
        ({"augment": True}, "Received: augment=True"),
    ],
)
def test_bad_arguments(scenes, given, message):
    with pytest.raises(ValueError, match=message):
        detection_batches(scenes, **{"batch_size": 2, "image_size": 48, **given})


def test_an_empty_set(scenes):
    with pytest.raises(ValueError, match="must have an image"):
        detection_batches(scenes.select([]), 2, 48)


def test_keras_trains_on_them(scenes):
    batches = detection_batches(scenes, 5, 48, training=True)
    count = batches.element_spec[1]["classes"].shape[1]
    inputs = keras.Input((48, 48, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = {
        "boxes": keras.layers.Reshape((count, 4))(keras.layers.Dense(4 * count)(x)),
        "classes": keras.layers.Dense(count)(x),
    }
    model = keras.Model(inputs, outputs)
    model.compile(loss={"boxes": "mse", "classes": "mse"})
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("size", [4, 1])
def test_a_bad_image_is_replaced_by_the_next_one(tmp_path, size):
    """Each image has a colour of its own, by which it is known."""
    data = coco_folder(write_many(tmp_path, 20)).train
    broken = data.images.paths[5]
    cut_short(broken)
    with reading(data.images):
        batches = as_arrays(detection_batches(data, size, 40))
    assert [len(images) for images, *_ in batches] == [size] * (20 // size)
    seen = np.concatenate([images[:, 5, 5, 0] for images, *_ in batches])
    edges = np.concatenate([boxes[:, 0, 2] for _, boxes, _ in batches])
    expected = np.arange(20)
    # The batch of four is 4, 5, 6, 7; where it is alone the next one of the set follows.
    expected[5] = 6
    np.testing.assert_array_equal(seen, 10 * expected)
    np.testing.assert_array_equal(edges, expected + 1)
    assert list(data.images.failures) == [5]
    assert len(data.readable()) == 19
    (line,) = data.all_skipped()
    assert line.startswith(f"{broken}: ")


def test_the_last_image_of_a_batch_is_replaced_by_its_first(tmp_path):
    data = coco_folder(write_many(tmp_path, 20)).train
    write_image(tmp_path / "train2017" / "07.png", width=41)
    with reading(data.images):
        batches = as_arrays(detection_batches(data, 4, 40))
    assert batches[1][0][:, 5, 5, 0].tolist() == [40, 50, 60, 40]
    assert "it is 41 pixels wide and 30 high, its boxes are for 40 and 30" in data.all_skipped()[0]


@pytest.mark.parametrize(("bad", "strict"), [(3, False), (1, True)])
def test_too_many_bad_images_are_one_sentence(tmp_path, bad, strict):
    data = coco_folder(write_many(tmp_path, 20), strict=strict).train
    for path in data.images.paths[:bad]:
        cut_short(path)
    message = rf"^{bad} of 20 images cannot be read, the first is .*00\.png: "
    with pytest.raises(DataError, match=message), reading(data.images):
        list(detection_batches(data, 20, 32))


def test_images_of_many_sizes(tmp_path):
    for i in range(6):
        write_image(tmp_path / "images" / f"{i}.png", colour=40 * i)
    names = {i: f"{i}.png" for i in range(6)}
    coco_json(tmp_path / "annotations.json", names, [coco_box(i, [9, 9, 9, 9]) for i in range(6)])
    data = load_detection_data(tmp_path)
    with reading(*data.sources()):
        for images, targets in detection_batches(data.train, 2, 24, training=True):
            assert images.shape[1:] == (24, 24, 3)
            assert np.isfinite(targets["boxes"]).all()


def test_without_an_epoch_each_iteration_is_another_one():
    scenes = clothing_scenes(10)
    batches = detection_batches(scenes, 4, 96, training=True)
    assert len(batches) == 3
    for epoch in range(2):
        expected = detection_batches(scenes, 4, 96, training=True, epoch=epoch)
        for (ours, _), (theirs, _) in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_batch_pads_to_its_own_count():
    """Not to the 93 boxes of one image: to 8, 16, 32, ... and to no more than those 93."""
    counts = [3, 9, 93, 0, 8, 1]
    data = make_set([[[1, 1, 9, 9]] * n for n in counts], [[0] * n for n in counts])
    batches = detection_batches(data, 1, 32)
    assert batches.element_spec[1]["boxes"].shape == (None, None, 4)
    assert [boxes.shape[1] for _, boxes, _ in as_arrays(batches)] == [8, 16, 93, 8, 8, 8]
    few = detection_batches(data.select([0, 5]), 1, 32)
    assert few.element_spec[1]["boxes"].shape == (None, 3, 4)


SCRIPT = """
from keras_cbam.detection import clothing_scenes, detection_batches
batches = iter(detection_batches(clothing_scenes(64), 4, 96, training=True))
next(batches)
"""


@pytest.mark.parametrize(
    "attempt", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 2))]
)
def test_a_script_that_reads_one_batch_ends(attempt):
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60, capture_output=True)


def sides_of(batches):
    """The heights of images of 40 by 30 pixels, white, in each batch."""
    return [
        {int((image[..., 0] > 0).sum(axis=0).max()) for image in images} for images, *_ in batches
    ]


def test_one_short_side_is_drawn_for_each_batch(tmp_path):
    data = coco_folder(write_many(tmp_path, 24)).train
    for path in data.images.paths:
        write_image(pathlib.Path(path), colour=255)
    given = {"image_size": 64, "short_side": (15, 24, 30), "augment": "none"}
    with reading(data.images):
        batches, again, other = (
            as_arrays(detection_batches(data, 2, training=True, epoch=epoch, **given))
            for epoch in (1, 1, 2)
        )
        rest = as_arrays(detection_batches(data, 2, training=True, epoch=1, first_step=7, **given))
        test = as_arrays(detection_batches(data, 2, **given))
        process = as_arrays(
            detection_batches(data, 2, training=True, epoch=1, devices=Devices(2, 2, 1), **given)
        )
    sides = sides_of(batches)
    assert all(len(each) == 1 for each in sides)
    assert set.union(*sides) == {15, 24, 30}
    assert sides == sides_of(again) != sides_of(other)
    assert sides_of(rest) == sides[7:]
    assert sides_of(process) == sides
    # The largest.
    assert set.union(*sides_of(test)) == {30}
    for images, boxes, _ in batches:
        assert images.shape[1:] == (64, 64, 3)
        height = (images[0, ..., 0] > 0).sum(axis=0).max()
        assert boxes[0, 0, 3] == pytest.approx(9 * height / 30)
