import pytest

pytest.importorskip("keras_cv", reason="keras_cbam[detection] is not installed")
