import numpy as np
import pytest
from PIL import Image

from keras_cbam.data import decoding
from keras_cbam.detection import SizedImages
from keras_cbam.errors import DataError
from tests.detection.folders import cut_short, write_image


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / f"{i:02}.png" for i in range(20)]
    for i, path in enumerate(paths):
        write_image(path, width=30 + i, height=30, colour=i)
    return list(map(str, paths))


@pytest.fixture
def images(paths):
    return SizedImages(paths, np.array([[30, 30 + i] for i in range(20)]))


def as_array(image, position):
    return position, np.asarray(image)


def test_images_have_their_own_sizes(images):
    assert len(images) == 20
    assert images[3].shape == (30, 33, 3)
    found, kept = images.read_each([7, 2], as_array)
    assert [(position, each.shape, each[0, 0, 0]) for position, each in found] == [
        (0, (30, 37, 3), 7),
        (1, (30, 32, 3), 2),
    ]
    assert kept.tolist() == [True, True]
    few = images.select(np.array([4, 9]))
    assert (len(few), few[1].shape) == (2, (30, 39, 3))


def test_grey_and_transparent_images_are_rgb(tmp_path):
    path = str(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 5), 9, "uint8")).save(path)
    assert SizedImages([path], np.array([[4, 5]]))[0].tolist() == [[[9] * 3] * 5] * 4


def test_failures(images):
    cut_short(images.paths[1])
    Image.new("RGB", (3, 30)).save(images.paths[5])
    with decoding():
        found, kept = images.read_each([0, 1, 5], as_array)
        assert [position for position, _ in found] == [0]
        assert kept.tolist() == [True, False, False]
        assert set(images.failures) == {1, 5}
        with pytest.raises(DataError, match=r"^The image '.*01\.png' cannot be used: .*\.$"):
            images[1]
    first, second = images.failure_lines()
    assert first.startswith(images.paths[1])
    wrong = "it is 3 pixels wide and 30 high, its boxes are for 35 and 30"
    assert second == f"{images.paths[5]}: {wrong}"


def test_a_failure_is_not_read_again(images):
    cut_short(images.paths[1])
    images.read_each([1], as_array)
    Image.new("RGB", (31, 30)).save(images.paths[1])
    assert images.read_each([1], as_array)[1].tolist() == [False]


@pytest.mark.parametrize("strict", [False, True])
def test_too_many_failures_are_an_error(paths, strict):
    sizes = np.array([[30, 30 + i] for i in range(20)])
    for index in range(1 if strict else 3):
        cut_short(paths[index])
    images = SizedImages(paths, sizes, strict)
    message = "1 of 20 images cannot be read" if strict else "3 of 20 images cannot be read"
    with pytest.raises(DataError, match=message) as caught:
        images.read_each(range(20), as_array)
    assert images.error is caught.value
    assert images.select(np.arange(2)).strict is strict


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("is_upright", [True, False])
def test_an_image_that_exif_turns_goes_with_its_boxes(tmp_path, orientation, is_upright):
    """Programs that write annotations measure the image upright, or as it is stored."""
    path = str(tmp_path / "turned.jpg")
    stored = Image.new("RGB", (60, 40))
    stored.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif, quality=95)
    size = [60, 40] if is_upright and orientation != 1 else [40, 60]
    images = SizedImages([path], np.array([size]))
    pixels = images[0]
    assert pixels.shape == (*size, 3)
    corner = {1: (10, 10), 6: (10, -10), 8: (-10, 10)}[orientation if is_upright else 1]
    assert pixels[corner][0] > 200
    assert images.failures == {}
