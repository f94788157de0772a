import pytest

for name in ("keras_cv", "pycocotools", "defusedxml"):
    pytest.importorskip(name, reason="needs keras_cbam[detection]")
