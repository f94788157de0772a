import numpy as np
import pytest
import tensorflow as tf

from keras_cbam.data.imagenet import find_training_files
from keras_cbam.data.streaming import picture_streams
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import cut_short, make_imagenet

SIZE = 16


@pytest.fixture
def files(tmp_path):
    return find_training_files(make_imagenet(tmp_path / "data", train=3))[0]


def epochs(files, seed, count=2, **arguments):
    """Images and labels of that many epochs of training."""
    with picture_streams(SIZE) as streams:
        datasets = [streams.training(files, 4, seed, epoch, **arguments) for epoch in range(count)]
        return [
            tuple(np.concatenate(arrays) for arrays in zip(*dataset.as_numpy_iterator()))
            for dataset in datasets
        ]


def test_every_epoch_has_each_picture_once_with_its_label(files):
    for images, labels in epochs(files, seed=0):
        assert images.shape == (21, SIZE, SIZE, 3)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        assert (images[..., 0] == 30 * labels[:, None, None]).all()
        assert sorted(labels) == sorted(files.labels)


def test_seed_gives_the_order_and_the_crops(files):
    first, again, other = (epochs(files, seed) for seed in (3, 3, 4))
    for ours, theirs in zip(first, again):
        for our, their in zip(ours, theirs):
            np.testing.assert_array_equal(our, their)
    assert not np.array_equal(first[0][1], first[1][1])
    assert not np.array_equal(first[0][1], other[0][1])


def test_every_epoch_has_new_crops(files):
    crops = [{image[..., 1:].tobytes() for image in images} for images, _ in epochs(files, seed=0)]
    # The pictures differ in their red alone: a crop is told by its green and blue.
    assert len(crops[0]) > 15
    assert len(crops[0] & crops[1]) < 3


def test_flips(files):
    def mirrored(flip):
        return [
            image[0, 0, 1] > image[0, -1, 1]
            for images, _ in epochs(files, seed=0, flip=flip)
            for image in images
        ]

    assert 0 < sum(mirrored(True)) < 42
    assert not any(mirrored(False))


def test_the_rest_of_an_epoch(files):
    whole = epochs(files, seed=0, count=1)[0]
    rest = epochs(files, seed=0, count=1, first_step=2)[0]
    for ours, theirs in zip(rest, whole):
        np.testing.assert_array_equal(ours, theirs[8:])


def test_evaluation_is_in_order(files):
    with picture_streams(SIZE) as streams:
        batches = list(streams.evaluation(files, 8).as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [8, 8, 5]
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), files.labels)
    images = np.concatenate([images for images, _ in batches])
    assert (images[..., 0] == 30 * files.labels[:, None, None]).all()


@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_damaged_picture_ends_the_block(files, part):
    path = cut_short(files.paths[5])

    def read():
        with picture_streams(SIZE) as streams:
            more = {"seed": 0, "epoch": 0} if part == "training" else {}
            list(getattr(streams, part)(files, 4, **more))

    with pytest.raises(DataError, match=rf"The picture '{path}' cannot be read: .*truncated"):
        read()


def test_other_errors_are_left_as_they_are():
    with pytest.raises(tf.errors.ResourceExhaustedError), picture_streams(SIZE):
        raise tf.errors.ResourceExhaustedError(None, None, "memory")
