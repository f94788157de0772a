import numpy as np

from keras_cbam.training.pipeline import batches

IMAGES = np.arange(10 * 2 * 3 * 3, dtype="uint16").reshape(10, 2, 3, 3).astype("uint8")
LABELS = np.arange(10, dtype="int32")


def epoch(dataset):
    parts = list(dataset.as_numpy_iterator())
    return tuple(np.concatenate(arrays) for arrays in zip(*parts))


def test_given_order_without_a_seed():
    images, labels = epoch(batches(IMAGES, LABELS, 4))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == "uint8"
    assert labels.dtype == "int32"


def test_every_epoch_has_each_picture_once_in_a_new_order():
    dataset = batches(IMAGES, LABELS, 4, shuffle_seed=3)
    orders = []
    for _ in range(2):
        images, labels = epoch(dataset)
        np.testing.assert_array_equal(images, IMAGES[labels])
        assert sorted(labels) == list(range(10))
        orders.append(labels.tolist())
    assert orders[0] != orders[1]


def test_flips_are_whole_pictures_and_follow_the_seed():
    def two_epochs(seed):
        dataset = batches(IMAGES, LABELS, 4, shuffle_seed=seed, flip=True)
        return [epoch(dataset) for _ in range(2)]

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
