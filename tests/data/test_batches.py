import pathlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_cbam.data.batches import batched, evaluation_batches, reading, training_batches
from keras_cbam.data.crops import training_crop
from keras_cbam.data.image_files import open_image
from keras_cbam.data.image_sources import ArrayImages, FileImages
from keras_cbam.data.labelled_images import LabelledImages
from keras_cbam.data.order import Devices, epoch_order, share
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import cut_short, save_image

ARRAY = np.arange(10 * 2 * 2 * 3, dtype="uint8").reshape(10, 2, 2, 3)
PART = LabelledImages(ArrayImages(ARRAY), np.arange(10, dtype="int32"))
SIZE = 16


@pytest.fixture
def files(tmp_path):
    """Forty images, whose red level is their label."""
    paths = [str(save_image(tmp_path / f"{i:02}.png", i)) for i in range(40)]
    return LabelledImages(FileImages(paths, SIZE), np.arange(40, dtype="int32"))


def epoch(dataset, *sources):
    with reading(*sources):
        return tuple(map(np.concatenate, zip(*dataset.as_numpy_iterator())))


def test_given_order():
    dataset = evaluation_batches(PART, 4)
    assert len(dataset) == 3
    images, labels = epoch(dataset)
    np.testing.assert_array_equal(images, ARRAY)
    assert labels.tolist() == list(range(10))
    assert (images.dtype, labels.dtype) == ("uint8", "int32")
    assert dataset.element_spec == (
        tf.TensorSpec((None, 2, 2, 3), tf.uint8),
        tf.TensorSpec((None,), tf.int32),
    )


def test_every_epoch_has_each_image_once_in_a_new_order():
    orders = []
    for number in range(2):
        dataset = training_batches(PART, 4, seed=3, epoch=number, augment="none")
        assert len(dataset) == 3
        images, labels = epoch(dataset)
        np.testing.assert_array_equal(images, ARRAY[labels])
        assert sorted(labels) == list(range(10))
        orders.append(labels.tolist())
    assert orders[0] != orders[1]


def test_flips_are_whole_images_and_follow_the_seed():
    def two_epochs(seed):
        return [epoch(training_batches(PART, 4, seed, number)) for number in range(2)]

    first, again, other = two_epochs(3), two_epochs(3), two_epochs(4)
    flipped = []
    for images, labels in first:
        for image, label in zip(images, labels):
            flipped.append(not np.array_equal(image, ARRAY[label]))
            expected = ARRAY[label][:, ::-1] if flipped[-1] else ARRAY[label]
            np.testing.assert_array_equal(image, expected)
    assert 0 < sum(flipped) < 20
    for (ours, _), (theirs, _) in zip(first, again):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(first[0][0], other[0][0])


def test_crops_are_those_of_the_number(files):
    order, numbers = epoch_order(40, 3, 1)
    images, labels = epoch(training_batches(files, 16, 3, 1, augment="crop"))
    assert labels.tolist() == order.tolist()
    for image, index, number in zip(images, order, numbers):
        file = open_image(files.images.paths[index])
        expected = training_crop(file, SIZE, np.random.default_rng(number))
        np.testing.assert_array_equal(image, expected)
    with pytest.raises(ValueError, match=r"`augment` must be one of .*Received: augment='flips'"):
        training_batches(files, 16, 3, 1, augment="flips")


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_the_rest_of_an_epoch(files, augment):
    whole = epoch(training_batches(files, 16, 3, 1, augment))
    rest = training_batches(files, 16, 3, 1, augment, first_step=1)
    assert len(rest) == 2
    for ours, theirs in zip(epoch(rest), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs[16:])


def test_processes_share_every_batch():
    def steps(devices):
        return list(training_batches(PART, 4, 3, 0, devices=devices).as_numpy_iterator())

    alone, *parts = (steps(Devices(*each)) for each in ((4,), (4, 2, 0), (4, 2, 1)))
    # Two of ten images cannot be shared by four devices.
    assert [len(labels) for _, labels in alone] == [4, 4]
    for together, *apart in zip(alone, *parts, strict=True):
        for ours, *theirs in zip(together, *apart, strict=True):
            np.testing.assert_array_equal(ours, np.concatenate(theirs))
    _, labels = epoch(evaluation_batches(PART, 4, Devices(2, 2, 1)))
    assert labels.tolist() == [2, 3, 6, 7, 9]


def test_last_batch_is_shared_too():
    labels = np.arange(11)
    parts = [share(labels, 4, Devices(2, 2, process)).tolist() for process in range(2)]
    # In steps of two: of the last ten images, batches of 4, 4 and 2.
    assert parts == [[0, 1, 4, 5, 8], [2, 3, 6, 7, 9]]
    assert share(labels, 4, Devices(2, 2, 1), first_step=2).tolist() == [9]
    with pytest.raises(DataError, match="16 devices need as many images, received 11"):
        share(labels, 16, Devices(16))


def test_no_thread_tunes_an_iteration():
    # Its end would wait for it, for up to a minute.
    batches = training_batches(PART, 4, seed=0, epoch=0).take(1).prefetch(1)
    assert batches.options().autotune.enabled is False


def test_batches_of_anything():
    def read(rows):
        return rows.sum(axis=1), (rows % 2 == 0).any(axis=1), np.full(len(rows), b"x")

    rows = np.arange(14, dtype="int64").reshape(7, 2)
    signature = [tf.TensorSpec((None,), each) for each in (tf.int64, tf.bool, tf.string)]
    dataset = batched(rows, 3, read, tuple(signature))
    assert len(dataset) == 3
    sums, even, text = epoch(dataset)
    assert sums.tolist() == rows.sum(axis=1).tolist()
    assert even.all()
    assert set(text) == {b"x"}


# Images that cannot be decoded


def damage(files, *indices):
    for index in indices:
        cut_short(files.images.paths[index])


@pytest.mark.parametrize("augment", ["none", "flip", "crop"])
def test_in_training_the_next_one_of_the_batch_is_taken(files, augment):
    whole = epoch(training_batches(files, 8, 3, 1, augment))
    order = epoch_order(40, 3, 1)[0]
    # The first and the last of the first batch, and two neighbours.
    damage(files, *order[[0, 7, 11, 12]])
    fresh = LabelledImages(files.images.select(np.arange(40)), files.labels)
    dataset = training_batches(fresh, 8, 3, 1, augment)
    images, labels = epoch(dataset, fresh.images)
    places = np.arange(40)
    places[[0, 7, 11, 12]] = [1, 1, 13, 13]
    np.testing.assert_array_equal(labels, order[places])
    np.testing.assert_array_equal(images, whole[0][places])
    assert len(dataset) == 5
    assert sorted(fresh.images.failures) == sorted(order[[0, 7, 11, 12]].tolist())


@pytest.mark.parametrize("augment", ["flip", "crop"])
def test_a_whole_batch_that_cannot_be_read_is_that_of_the_following_images(files, augment):
    order = epoch_order(40, 3, 1)[0]
    damage(files, *order[[2, 3]])
    _, labels = epoch(training_batches(files, 2, 3, 1, augment), files.images)
    expected = order.copy()
    following = (order[[2, 3]] + 1) % 40
    readable = ~np.isin(following, order[[2, 3]])
    expected[[2, 3]] = np.where(readable, following, following[::-1])
    assert labels.tolist() == expected.tolist()


def test_in_evaluation_the_next_ones_stand_in(files):
    damage(files, 0, 5, 39)
    dataset = evaluation_batches(files, 8)
    stand_ins = {0: 1, 5: 6, 39: 32}
    for _ in range(2):
        images, labels = epoch(dataset, files.images)
        assert labels.tolist() == [stand_ins.get(i, i) for i in range(40)]
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    assert len(dataset) == 5
    assert set(files.images.failures) == {0, 5, 39}
    # The last batch has the one image 39: those that follow are 0, which is damaged too, and 1.
    _, labels = epoch(evaluation_batches(files, 39), files.images)
    assert labels.tolist()[-1] == 1


@pytest.mark.parametrize("read", [evaluation_batches, lambda *args: training_batches(*args, 0, 0)])
def test_more_than_one_in_ten_end_the_block(files, read):
    damage(files, 1, 2, 3, 4, 5)
    # Twice the same source may be given.
    with pytest.raises(DataError, match=r"^5 of 40 images cannot be read, the first is .*01.png"):
        epoch(read(files, 40), files.images, files.images)


def test_strict_ends_model_fit(files):
    damage(files, 7)
    images = FileImages(files.images.paths, SIZE, strict=True)
    layers = [keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(40)]
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    batches = training_batches(LabelledImages(images, files.labels), 8, 0, 0)
    message = r"^1 of 40 images .*first is .*07.png: .*truncated"
    with pytest.raises(DataError, match=message), reading(images):
        model.fit(batches, verbose=0, shuffle=False)


def test_within_reading_large_images_are_refused_as_bombs(files, monkeypatch):
    save_image(pathlib.Path(files.images.paths[3]), 3, (50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, labels = epoch(evaluation_batches(files, 40), files.images)
    assert 3 not in labels
    assert "decompression bomb" in files.images.failures[3]


def test_other_errors_are_left_as_they_are(files):
    # That of another block, which was handled.
    files.images.error = DataError("before")
    with pytest.raises(tf.errors.ResourceExhaustedError), reading(files.images):
        raise tf.errors.ResourceExhaustedError(None, None, "memory")
