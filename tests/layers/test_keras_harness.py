"""Keras' own checks of a layer, where the installed Keras ships them."""

import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from tests.checks import case_id

testing = pytest.importorskip("keras.src.testing", reason="this Keras ships no test case")


@pytest.mark.parametrize(
    ("layer_class", "arguments", "shape"),
    [
        (ChannelAttention, {"reduction_ratio": 2}, (2, 5, 4, 6)),
        (SpatialAttention, {"kernel_size": 3, "use_batch_norm": True}, (2, 5, 4, 6)),
        (CBAM, {"start_as_identity": True}, (2, 5, 4, 6)),
        (CBAM, {"arrangement": "parallel", "use_batch_norm": True}, (2, 7, 6)),
        (BAM, {"reduction_ratio": 2}, (3, 5, 4, 6)),
    ],
    ids=case_id,
)
# Keras' own: it fits on a generator.
@pytest.mark.filterwarnings("ignore:.shuffle=True. was passed, but will be ignored:UserWarning")
def test_run_layer_test(layer_class, arguments, shape):
    case = testing.TestCase()
    case.setUp()
    case.run_layer_test(
        layer_class,
        arguments,
        input_shape=shape,
        expected_output_shape=shape,
        expected_num_seed_generators=0,
        expected_num_losses=0,
        supports_masking=True,
    )
