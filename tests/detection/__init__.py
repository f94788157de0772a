import pytest

for name in ("keras_hub", "faster_coco_eval", "defusedxml"):
    pytest.importorskip(name, reason="needs keras_cbam[detection]")
