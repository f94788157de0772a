import numpy as np
import pytest
from keras import ops

from keras_cbam.ops.fused_cbam import is_top, least_tie
from tests.checks import to_numpy


@pytest.mark.parametrize("peak", [3.0, -3.0])
def test_products_within_8_epsilons_of_the_maximum_are_tied(peak):
    epsilon = np.finfo("float32").eps
    steps = np.array([0, 2, 6, 12, 40], "float32")
    values = ops.convert_to_tensor((peak - abs(peak) * epsilon * steps)[None])
    least = least_tie(ops.max(values, axis=1, keepdims=True))
    np.testing.assert_array_equal(to_numpy(is_top(least, values)), [[1, 1, 1, 0, 0]])


def test_a_maximum_of_zero_is_tied_with_zeros_only():
    values = ops.convert_to_tensor(np.array([[0, 0, -1e-30]], "float32"))
    least = least_tie(ops.max(values, axis=1, keepdims=True))
    np.testing.assert_array_equal(to_numpy(is_top(least, values)), [[1, 1, 0]])
