import numpy as np
import pytest

from keras_cbam.data.batches import batches, training_batches
from keras_cbam.data.order import share
from keras_cbam.errors import DataError
from keras_cbam.training.devices import Devices

IMAGES = np.arange(10 * 2 * 3 * 3, dtype="uint16").reshape(10, 2, 3, 3).astype("uint8")
LABELS = np.arange(10, dtype="int32")


def epoch(dataset):
    parts = list(dataset.as_numpy_iterator())
    return tuple(np.concatenate(arrays) for arrays in zip(*parts))


def test_given_order():
    images, labels = epoch(batches(IMAGES, LABELS, 4))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == "uint8"
    assert labels.dtype == "int32"


def test_every_epoch_has_each_picture_once_in_a_new_order():
    orders = []
    for number in range(2):
        dataset = training_batches(IMAGES, LABELS, 4, seed=3, epoch=number)
        assert len(dataset) == 3
        images, labels = epoch(dataset)
        np.testing.assert_array_equal(images, IMAGES[labels])
        assert sorted(labels) == list(range(10))
        orders.append(labels.tolist())
    assert orders[0] != orders[1]


def test_flips_are_whole_pictures_and_follow_the_seed():
    def two_epochs(seed):
        return [
            epoch(training_batches(IMAGES, LABELS, 4, seed, number, flip=True))
            for number in range(2)
        ]

    first, again, other = two_epochs(3), two_epochs(3), two_epochs(4)
    flipped = []
    for images, labels in first:
        for image, label in zip(images, labels):
            flipped.append(not np.array_equal(image, IMAGES[label]))
            expected = IMAGES[label][:, ::-1] if flipped[-1] else IMAGES[label]
            np.testing.assert_array_equal(image, expected)
    assert 0 < sum(flipped) < 20
    for (ours, _), (theirs, _) in zip(first, again):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first[0][0], first[1][0])
    assert not np.array_equal(first[0][0], other[0][0])


def test_the_rest_of_an_epoch():
    whole = list(training_batches(IMAGES, LABELS, 4, 3, 1, flip=True).as_numpy_iterator())
    rest = training_batches(IMAGES, LABELS, 4, 3, 1, flip=True, first_step=1)
    assert len(rest) == 2
    for (ours, _), (theirs, _) in zip(rest.as_numpy_iterator(), whole[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_processes_share_every_batch():
    batch_size, pictures = 4, len(LABELS)
    alone = list(
        training_batches(IMAGES, LABELS, batch_size, 3, 0, devices=Devices(4)).as_numpy_iterator()
    )
    parts = [
        list(
            training_batches(
                IMAGES, LABELS, batch_size, 3, 0, flip=False, devices=Devices(4, 2, process)
            ).as_numpy_iterator()
        )
        for process in range(2)
    ]
    # Two of ten pictures cannot be shared by four devices.
    assert [len(labels) for _, labels in alone] == [4, 4]
    assert pictures % 4 == 2
    for (images, labels), first, second in zip(alone, *parts, strict=True):
        np.testing.assert_array_equal(labels, np.concatenate([first[1], second[1]]))
        np.testing.assert_array_equal(images, np.concatenate([first[0], second[0]]))


def test_last_batch_is_shared_too():
    labels = np.arange(11)
    parts = [share(labels, 4, Devices(2, 2, process)).tolist() for process in range(2)]
    # In steps of two: of the last ten pictures, batches of 4, 4 and 2.
    assert parts == [[0, 1, 4, 5, 8], [2, 3, 6, 7, 9]]
    assert share(labels, 4, Devices(2, 2, 1), first_step=2).tolist() == [9]
    with pytest.raises(DataError, match="16 devices need as many pictures, received 11"):
        share(labels, 16, Devices(16))
