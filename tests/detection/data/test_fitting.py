import numpy as np
import pytest
from PIL import Image

from keras_cbam.detection.data.fitting import fitted, fitted_scale, fitted_size


def test_longer_side_fits_and_the_rest_is_black():
    pixels = fitted(Image.new("RGB", (60, 30), (200, 200, 200)), 20)
    np.testing.assert_array_equal(pixels[:10], 200)
    np.testing.assert_array_equal(pixels[10:], 0)
    np.testing.assert_allclose(fitted_scale(30, 60, 20), 1 / 3)
    pixels = fitted(Image.new("RGB", (1, 1000), (9, 9, 9)), 20)
    np.testing.assert_array_equal(pixels[:, 0], 9)
    np.testing.assert_allclose(fitted_scale(1000, 1, 20), [1, 20 / 1000])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 640, (600, 800)), (375, 500, (600, 800)), (300, 1200, (250, 1000)), (9, 9, (600, 600))],
)
def test_the_short_side_is_fitted_as_far_as_the_long_one_allows(height, width, expected):
    assert fitted_size(height, width, 1000, 600) == expected
    assert fitted_size(width, height, 1000, 600) == expected[::-1]
    scale = fitted_scale(height, width, 1000, 600)
    np.testing.assert_allclose(scale, [expected[1] / width, expected[0] / height])


def test_what_is_shorter_is_padded():
    pixels = fitted(Image.new("RGB", (40, 30), (9, 9, 9)), 100, 60)
    assert pixels.shape == (100, 100, 3)
    assert (pixels[:60, :80] == 9).all()
    assert pixels[60:].max() == pixels[:, 80:].max() == 0
