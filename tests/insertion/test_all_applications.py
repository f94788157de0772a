"""A light pick of what `benchmarks/all_applications.py` checks for every model."""

import keras
import pytest

from benchmarks.all_applications import TOLERANCES, check, enliven, output_differences, small_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="compares SavedModels, which are TensorFlow's",
    ),
]


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny", "Xception"])
def test_outputs_with_and_without_attention(name):
    model, images = small_model(name)
    enliven(model, images)
    row = output_differences(model, images)
    assert row["without_identity"] > 1e-4
    assert not row["shares_variables"]
    for key, most in TOLERANCES.items():
        assert row[key] <= most, key


def test_steps_under_xla_and_in_mixed_float16(dtype_policy):
    dtype_policy("float32")
    # `check` raises where a loss or a weight is not finite.
    assert check("MobileNetV3Small", ["steps"]).keys() == {"model", "xla_step", "float16_step"}
