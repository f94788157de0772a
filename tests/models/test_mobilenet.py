import keras
import numpy as np
import pytest

from keras_cbam import CBAM, find_sites
from keras_cbam.models import MobileNet
from tests.checks import to_numpy

SMALL = {"alpha": 0.125, "num_classes": 3, "input_shape": (32, 32, 3)}


def test_sites_are_after_each_unit():
    model = MobileNet("cbam", **SMALL)
    found = [layer.name for layer in model.layers if isinstance(layer, CBAM)]
    units = [f"conv_{kind}_{i}_relu" for i in range(1, 14) for kind in ("dw", "pw")]
    assert found == [f"{unit}_cbam" for unit in units]
    assert find_sites(MobileNet(None, **SMALL)) == units


def test_start_and_outputs():
    keras.utils.set_random_seed(0)
    model = MobileNet(None, num_classes=10, input_shape=(32, 32, 3))
    kernel = to_numpy(model.get_layer("conv_dw_13").kernel)
    assert kernel.std() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    norm = model.get_layer("conv_dw_1_bn")
    assert (norm.epsilon, norm.momentum) == (1e-5, 0.9)
    outputs = to_numpy(model(np.full((2, 32, 32, 3), 100.0)))
    np.testing.assert_allclose(outputs.sum(-1), 1, rtol=0, atol=1e-6)


def test_bad_width():
    with pytest.raises(ValueError, match=r"`alpha` must be a positive number\. Received: alpha=-1"):
        MobileNet(alpha=-1)
