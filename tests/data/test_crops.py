import numpy as np
import pytest
from PIL import Image

from keras_cbam.data.crops import evaluation_crop, random_box, training_crop


def noise(width, height, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, shape, "uint8"))


class Draws:
    """Draws at given places of every interval, area and aspect ratio in turn."""

    def __init__(self, area, aspect):
        self.places = (area, aspect)
        self.count = 0

    def uniform(self, low, high):
        self.count += 1
        return low + (high - low) * self.places[(self.count - 1) % 2]

    def integers(self, high):
        return high - 1


@pytest.mark.parametrize(
    ("area", "aspect", "size"),
    [
        (0.0, 0.5, (283, 283)),
        (0.0, 0.0, (245, 327)),
        (0.0, 1.0, (327, 245)),
        (0.5, 0.5, (735, 735)),
        (1.0, 0.5, (1000, 1000)),
    ],
)
def test_area_is_uniform_and_aspect_ratio_log_uniform(area, aspect, size):
    draws = Draws(area, aspect)
    # The last place that can be drawn is at the right and lower edge.
    expected = (1000 - size[0], 1000 - size[1], 1000, 1000)
    assert random_box(1000, 1000, draws) == expected
    assert draws.count == 2


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 100), (433, 0, 566, 100)),
        ((100, 1000), (0, 433, 100, 566)),
        ((100, 100), (0, 0, 100, 100)),
        ((120, 100), (0, 0, 120, 100)),
    ],
)
def test_what_does_not_fit_is_drawn_ten_times(size, expected):
    draws = Draws(1.0, 1.0 if size[0] >= size[1] else 0.0)
    assert random_box(*size, draws) == expected
    assert draws.count == 20


def test_boxes_are_inside_and_everywhere():
    generator = np.random.default_rng(0)
    boxes = np.array([random_box(400, 300, generator) for _ in range(1000)])
    left, top, right, bottom = boxes.T
    assert left.min() == top.min() == 0
    assert (right.max(), bottom.max()) == (400, 300)
    widths, heights = right - left, bottom - top
    areas, aspects = widths * heights / (400 * 300), widths / heights
    assert 0.078 < areas.min() < 0.1
    assert 0.9 < areas.max() <= 1
    assert 0.74 < aspects.min() < 0.78
    assert 1.29 < aspects.max() < 1.35


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_boxes_of_tiny_images(size):
    for seed in range(20):
        left, top, right, bottom = random_box(*size, np.random.default_rng(seed))
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_training_crop():
    image = noise(90, 70)
    mirrored = []
    for seed in range(30):
        part = image.crop(random_box(90, 70, np.random.default_rng(seed)))
        expected = np.asarray(part.resize((32, 32), Image.Resampling.BILINEAR))
        crop = training_crop(image, 32, np.random.default_rng(seed))
        mirrored.append(np.array_equal(crop, expected[:, ::-1]))
        assert mirrored[-1] or np.array_equal(crop, expected)
    assert 5 < sum(mirrored) < 25


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (300, 300), (256, 256), (40, 51), (1, 1), (3, 70), (401, 257)]
)
@pytest.mark.parametrize("side", [32, 224])
def test_evaluation_crop_is_resizing_and_cutting(size, side):
    image = noise(*size)
    shorter = {32: 37, 224: 256}[side]
    width, height = (int(shorter * length / min(size)) for length in size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((left, top, left + side, top + side)))
    crop = evaluation_crop(image, side)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop.astype(int), expected.astype(int), atol=1)


def test_long_and_narrow_image_is_not_resized_whole():
    # The whole would take 13 gigabytes.
    assert evaluation_crop(Image.new("RGB", (1, 65000), "red"), 224).shape == (224, 224, 3)


def test_greyscale_has_three_channels():
    image = noise(60, 50, "L")
    for crop in (
        evaluation_crop(image, 32),
        training_crop(image, 32, np.random.default_rng()),
    ):
        assert crop.shape == (32, 32, 3)
        assert (crop == crop[..., :1]).all()
