import numpy as np
import pytest

from keras_cbam.visualization.colours import colour_scale, coloured, in_words, overlay


def test_noise_is_no_structure():
    values = np.full((4, 4), 0.5) + np.linspace(0, 0.019, 16).reshape(4, 4)
    assert in_words(values) == "0.500 to 0.519, deviation 0.0058, nearly constant"
    assert colour_scale(values) == (pytest.approx(0.4595), pytest.approx(0.5595), "viridis")
    assert in_words(2 * values) == "1.00 to 1.04, deviation 0.012"
    assert colour_scale(2 * values) == (1.0, 1.038, "viridis")


def test_the_scale_of_an_identity_is_even_around_1():
    values = np.array([[0.9, 1.3], [1.0, 1.1]])
    assert colour_scale(values, is_identity=True) == (
        pytest.approx(0.7),
        pytest.approx(1.3),
        "RdBu_r",
    )


def test_an_overlay_is_a_mixture_of_grey_and_colours():
    image, values = np.random.default_rng(0).uniform(size=(2, 6, 8, 3))
    values = values[..., 0]
    scale = colour_scale(values)
    mixed = overlay(image, values, scale)
    grey = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    expected = 0.45 * grey[..., None] + 0.55 * coloured(values, scale)
    np.testing.assert_allclose(mixed, expected, atol=0.01)
