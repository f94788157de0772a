import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbam.detection import (
    clothing_scenes,
    coco_folder,
    detection_batches,
    load_detection_data,
    reading,
)
from keras_cbam.detection.data.augmentation import augmented
from keras_cbam.detection.data.batches import fitted
from keras_cbam.errors import DataError
from tests.detection.folders import coco_box, coco_json, write_coco, write_picture
from tests.detection.sets import make_set


@pytest.fixture(scope="module")
def scenes():
    return clothing_scenes(10, image_size=48)


def as_arrays(batches):
    return [(x.numpy(), y["boxes"].numpy(), y["classes"].numpy()) for x, y in batches]


def equal(one, other):
    return all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y))


def test_pictures_and_boxes_as_they_are(scenes):
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
    np.testing.assert_array_equal(images, scenes.pictures)
    for i, own in enumerate(scenes.boxes):
        np.testing.assert_array_equal(boxes[i, : len(own)], own)
        np.testing.assert_array_equal(classes[i, : len(own)], scenes.classes[i])
        assert (boxes[i, len(own) :] == -1).all()
        assert (classes[i, len(own) :] == -1).all()


def test_longer_side_fits_and_the_rest_is_black():
    picture = np.full((30, 60, 3), 200, "uint8")
    image, scale = fitted(picture, 20)
    np.testing.assert_array_equal(image[:10], 200)
    np.testing.assert_array_equal(image[10:], 0)
    np.testing.assert_allclose(scale, 1 / 3)
    image, scale = fitted(np.full((1000, 1, 3), 9, "uint8"), 20)
    np.testing.assert_array_equal(image[:, 0], 9)
    np.testing.assert_allclose(scale, [1, 20 / 1000])


def test_boxes_follow_the_picture(tmp_path):
    pixels = np.zeros((1, 40, 40, 3), "uint8")
    pixels[0, 8:24, 4:12] = 255
    square = make_set([[[4, 8, 12, 24]]], [[1]], size=40, pictures=pixels)
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


def test_pictures_without_any_boxes():
    data = make_set([[], []], [[], []])
    for training in (False, True):
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
    # Without a number each iteration is the next epoch.
    every = detection_batches(scenes, seed=5, **options)
    epochs = [as_arrays(every) for _ in range(3)]
    assert equal(epochs[2], arrays)
    assert not equal(epochs[0], epochs[1])


def test_shuffled_and_not_augmented(scenes):
    options = {"training": True, "augment": False, "drop_remainder": True}
    batches = detection_batches(scenes, 4, 48, **options)
    assert len(batches) == 2
    images = np.concatenate([each[0] for each in as_arrays(batches)])
    assert len({image.tobytes() for image in images}) == 8
    known = {picture.astype("float32").tobytes() for picture in scenes.pictures}
    assert {image.tobytes() for image in images} < known
    assert (images[:4] != scenes.pictures[:4]).any()


def test_augmented_boxes_are_around_what_they_were():
    """A white square on black: where it is after augmentation is where its box must be."""
    pixels = np.zeros((64, 64, 64, 3), "uint8")
    pixels[:, 30:50, 8:24] = 255
    data = make_set([[[8, 30, 24, 50]]] * 64, [[1]] * 64, size=64, pictures=pixels)
    ((images, boxes, classes),) = as_arrays(detection_batches(data, 64, 64, training=True))
    lefts = set()
    for image, box, kind in zip(images, boxes[:, 0], classes[:, 0]):
        bright = image[..., 0] > 127
        if kind == -1:
            # Less than a quarter of it is left.
            assert bright.sum() < 0.25 * 20 * 16 * 16 / 9 + 16
            assert (box == -1).all()
            continue
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(box, edges, atol=1.01)
        lefts.add(int(box[0]))
    assert min(lefts) < 16 < 32 < max(lefts)
    assert len({float(image.max()) for image in images}) > 10


def test_slivers_become_padding_and_padding_comes_last():
    images = tf.zeros((1, 90, 90, 3))
    # Magnified by 4/3 and cut at the left and top: 30 pixels are lost on the right.
    numbers = tf.constant([[0.999999, 0.0, 0.0, 0.5]])
    boxes = tf.constant([[[66.0, 0, 90, 20], [60, 0, 75, 20], [-1] * 4, [0, 0, 1, 50]]])
    _, boxes, classes = augmented(images, boxes, tf.constant([[3.0, 4, -1, 5]]), numbers)
    np.testing.assert_allclose(classes, [[4, -1, -1, -1]])
    np.testing.assert_allclose(boxes[0, 0], [80, 0, 90, 80 / 3], rtol=1e-5)
    np.testing.assert_array_equal(boxes[0, 1:], np.full((3, 4), -1))


def test_max_boxes(scenes):
    _, targets = detection_batches(scenes, 2, 48, max_boxes=9).element_spec
    assert targets["boxes"].shape == (None, 9, 4)
    with pytest.raises(ValueError, match="Received: max_boxes=1"):
        detection_batches(scenes, 2, 48, max_boxes=1)
    for name in ("batch_size", "image_size"):
        arguments = {"batch_size": 2, "image_size": 48, name: 0}
        with pytest.raises(ValueError, match=f"Received: {name}=0"):
            detection_batches(scenes, **arguments)


def test_keras_trains_on_them(scenes):
    inputs = keras.Input((48, 48, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = {
        "boxes": keras.layers.Reshape((5, 4))(keras.layers.Dense(20)(x)),
        "classes": keras.layers.Dense(5)(x),
    }
    model = keras.Model(inputs, outputs)
    model.compile(loss={"boxes": "mse", "classes": "mse"})
    batches = detection_batches(scenes, 5, 48, training=True, max_boxes=5)
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_a_picture_that_cannot_be_read_is_one_sentence(tmp_path):
    folder = write_coco(tmp_path / "data")
    whole = (folder / "train2017" / "a.png").read_bytes()
    (folder / "train2017" / "a.png").write_bytes(whole[:60])
    train = coco_folder(folder).train
    with (
        pytest.raises(DataError, match=r"^The picture '.*a\.png' cannot be read: .*\.$"),
        reading(train),
    ):
        list(detection_batches(train, 2, 32))
    # What has nothing to do with the pictures is left as it is.
    with pytest.raises(tf.errors.InvalidArgumentError), reading(train):
        tf.reshape(tf.zeros(3), (2, 2))


def test_pictures_of_many_sizes(tmp_path):
    for i in range(6):
        write_picture(tmp_path / "images" / f"{i}.png", colour=40 * i)
    names = {i: f"{i}.png" for i in range(6)}
    coco_json(tmp_path / "annotations.json", names, [coco_box(i, [9, 9, 9, 9]) for i in range(6)])
    data = load_detection_data(tmp_path)
    with reading(data.train):
        for images, targets in detection_batches(data.train, 2, 24, training=True):
            assert images.shape[1:] == (24, 24, 3)
            assert np.isfinite(targets["boxes"]).all()


def test_without_keras_cv_the_extra_is_named():
    code = (
        "import sys; sys.modules['keras_cv'] = None\n"
        "import keras_cbam\n"
        "try:\n    import keras_cbam.detection\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install keras_cbam[detection]" in run.stdout
