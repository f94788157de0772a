import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_cbam.data import image_sources
from keras_cbam.data.crops import evaluation_crop
from keras_cbam.data.image_files import open_image, square
from keras_cbam.data.image_sources import ArrayImages, FileImages, image_batches
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import cut_short, save_image

SIZE = 16


@pytest.fixture
def paths(tmp_path):
    """Twenty images of the red levels 0 to 19."""
    return [str(save_image(tmp_path / f"{i:02}.png", i)) for i in range(20)]


def levels(pixels):
    return pixels[:, 0, 0, 0].tolist()


def test_files_are_read_in_any_order(paths):
    images = FileImages(paths, SIZE)
    assert (len(images), images.shape) == (20, (20, SIZE, SIZE, 3))
    pixels, kept = images.read([3, 1, 3, 19])
    assert pixels.dtype == np.uint8
    assert levels(pixels) == [3, 1, 3, 19]
    assert kept.tolist() == [True] * 4
    assert levels(images.select(np.array([5, 2])).read([1, 0])[0]) == [2, 5]
    assert images.failures == {}


@pytest.mark.parametrize("resize", ["square", "center_crop"])
def test_resize(tmp_path, monkeypatch, resize):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 60, 3), "uint8")
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    image = open_image(tmp_path / "a.jpg")
    expected = {"square": square, "center_crop": evaluation_crop}[resize](image, SIZE)
    # The centre square of a JPEG is that of a smaller decoding.
    atol = 12 if resize == "square" else 0
    sizes = []

    def opened(path, draft_size=None):
        sizes.append(draft_size)
        return open_image(path, draft_size)

    monkeypatch.setattr(image_sources, "open_image", opened)
    found, _ = FileImages([tmp_path / "a.jpg"], SIZE, resize).read([0])
    np.testing.assert_allclose(found[0].astype(int), expected.astype(int), atol=atol)
    assert sizes == [2 * SIZE if resize == "square" else None]
    with pytest.raises(ValueError, match=r"`resize` must be one of .*Received: resize='crop'"):
        FileImages([], SIZE, "crop")


def made(image, position):
    assert image.mode in ("L", "RGB")
    return np.full((SIZE, SIZE, 3), 10 * np.asarray(image.convert("RGB"))[0, 0, 0] + position)


def test_a_transform_gets_the_image_and_its_position(paths):
    array = FileImages(paths, SIZE).read(np.arange(20))[0]
    for images in (FileImages(paths, SIZE), ArrayImages(array)):
        pixels, kept = images.read(np.array([7, 2]), lambda *given: made(*given).astype("uint8"))
        assert levels(pixels) == [70, 21]
        assert kept.all()
        # What was made is not kept for readers without a transform.
        assert levels(images.read(np.array([7]))[0]) == [7]


def test_arrays():
    array = np.arange(5, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 3), "uint8")
    images = ArrayImages(array)
    assert (len(images), images.shape) == (5, (5, 2, 2, 3))
    pixels, kept = images.read(np.array([4, 0]))
    pixels[:] = 99
    assert levels(images.read(np.array([4, 0]))[0]) == [4, 0]
    assert kept.tolist() == [True, True]
    assert levels(images.select(np.array([3, 1])).read(np.array([0]))[0]) == [3]
    assert (images.failures, images.error, images.failure_lines()) == ({}, None, [])


@pytest.mark.parametrize("limit", [None, 20 * SIZE * SIZE * 3, 20 * SIZE * SIZE * 3 - 1])
def test_decoded_images_are_kept_if_they_fit(paths, monkeypatch, limit):
    if limit is not None:
        monkeypatch.setattr(image_sources, "LARGEST_IN_MEMORY", limit)
    images = FileImages(paths, SIZE)
    assert levels(images.read([4])[0]) == [4]
    for path in paths:
        save_image(pathlib.Path(path), 200)
    fits = limit is None or limit == 20 * SIZE * SIZE * 3
    assert levels(images.read([5, 4])[0]) == [200, 4 if fits else 200]


def test_images_that_cannot_be_decoded_are_left_out(paths):
    cut_short(paths[3])
    cut_short(paths[8])
    images = FileImages(paths, SIZE)
    assert images.failures == {}
    for _ in range(2):
        pixels, kept = images.read(np.array([8, 1, 3, 0]))
        assert kept.tolist() == [False, True, False, True]
        assert levels(pixels) == [1, 0]
    assert sorted(images.failures) == [3, 8]
    assert all("truncated" in reason for reason in images.failures.values())
    assert [line.split(": ")[0] for line in images.failure_lines()] == [paths[3], paths[8]]
    assert images.error is None
    # In every epoch alike, whatever becomes of the file.
    save_image(pathlib.Path(paths[3]), 3)
    assert images.read(np.array([3]))[1].tolist() == [False]


def test_more_than_one_in_ten(paths):
    for index in (3, 8, 9):
        cut_short(paths[index])
    images = FileImages(paths, SIZE)
    images.read(np.array([3, 8]))
    with pytest.raises(DataError, match=f"^3 of 20 images .*the first is {paths[3]}: .*[^.][.]$"):
        images.read(np.array([9, 0]))
    assert str(images.error).startswith("3 of 20 images cannot be read")


def test_strict(paths):
    cut_short(paths[3])
    images = FileImages(paths, SIZE, strict=True)
    images.read(np.array([0, 1]))
    for source in (images, images.select(np.arange(10))):
        with pytest.raises(DataError, match=f"^1 of .* images .* first is {paths[3]}: .*truncated"):
            source.read(np.array([3, 0]))


def test_an_error_of_a_transform_is_no_unreadable_image(paths):
    def fail(image, position):
        raise ZeroDivisionError

    images = FileImages(paths, SIZE)
    with pytest.raises(ZeroDivisionError):
        images.read([0], fail)
    assert images.failures == {}


def place_and_level(image, position):
    return position, np.asarray(image)[0, 0, 0]


@pytest.mark.parametrize("kind", [np.array, list])
def test_images_of_any_size_are_read_one_by_one(paths, kind):
    arrays = ArrayImages(kind([np.full((4, 5, 3), i, "uint8") for i in range(3)]))
    found, kept = arrays.read_each([2, 0], place_and_level)
    assert (list(found), kept.tolist()) == ([(0, 2), (1, 0)], [True, True])
    cut_short(paths[3])
    found, kept = FileImages(paths, SIZE).read_each([5, 3, 7], place_and_level)
    assert (list(found), kept.tolist()) == ([(0, 5), (2, 7)], [True, False, True])


@pytest.mark.parametrize("transform", [None, lambda image, _: np.asarray(image)])
def test_batches_of_files(paths, transform):
    """However many cannot be decoded."""
    for path in paths[:12]:
        cut_short(path)
    skipped = ["earlier"]
    batches = list(image_batches(paths, 5, skipped, SIZE, transform=transform))
    assert [batch for batch, _ in batches] == [paths[12:15], paths[15:]]
    found = [image[0, 0, 0] for _, images in batches for image in images]
    assert found == list(range(12, 20))
    assert len(skipped) == 13
    assert skipped[1].startswith(f"{paths[0]}: ")
    with pytest.raises(DataError, match=r"None of the images can be read, .*00\.png"):
        list(image_batches(paths[:3], 5, [], SIZE, transform=transform))
