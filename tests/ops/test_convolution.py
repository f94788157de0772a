import numpy as np
import pytest
from keras import ops

from keras_cbam.ops.convolution import convolve_by_matrix
from tests.checks import assert_close, gradients, random_input

# The widths of one tile, of two whole ones, and of tiles that reach beyond the end.
SPACES = [(5,), (56,), (9, 4), (3, 61), (3, 2, 6)]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("maps", [1, 2, 4])
def test_is_the_convolution_of_keras(space, size, maps):
    """Also where the kernel is wider than the maps."""
    x = random_input((2, *space, maps))
    kernel = random_input((*[size] * len(space), maps, 1), 1)
    expected = ops.conv(x, kernel, padding="same", data_format="channels_last")
    result = convolve_by_matrix(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel))
    assert_close(result, np.array(ops.convert_to_numpy(expected)), 1e-6)


def test_gradients_are_those_of_the_convolution():
    x, kernel = random_input((2, 6, 5, 2)), random_input((7, 7, 2, 1), 1)
    direction = ops.convert_to_tensor(random_input((2, 6, 5, 1), 2))

    def by_keras(x, kernel):
        return ops.conv(x, kernel, padding="same", data_format="channels_last")

    results = [
        gradients(lambda x, kernel: ops.sum(convolve(x, kernel) * direction), x, kernel)  # noqa: B023
        for convolve in (by_keras, convolve_by_matrix)
    ]
    for expected, actual in zip(*results):
        assert_close(actual, expected, 1e-5)
