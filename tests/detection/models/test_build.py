import pytest

from keras_cbam import CBAM
from keras_cbam.detection import SSD, FasterRCNN, StairNet, build_detector

KINDS = {
    "ssd": SSD,
    "stairnet": StairNet,
    "faster_rcnn": FasterRCNN,
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_small_detectors_have_attention_where_it_belongs(name, kind):
    model = build_detector(name, num_classes=4, image_size=64)
    assert type(model) is kind
    assert model.num_classes == 4
    levels = list(model.backbone.pyramid_outputs)
    assert (
        levels
        == {
            "ssd": ["P3", "P4"],
            "stairnet": ["P3", "P4"],
            "faster_rcnn": ["P2", "P3", "P4", "P5"],
        }[name]
    )
    in_backbone, in_head = (
        sum(isinstance(layer, CBAM) for layer in getattr(part, "layers", ()))
        for part in (model.backbone, getattr(model, "head", None))
    )
    # Six blocks; the last level of SSD does not need the last one. 64 pixels: 8, 4, 2 and 1.
    assert (in_backbone, in_head) == ((0, 4) if name in ("ssd", "stairnet") else (6, 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sdd", 4, 64), "Received: detector='sdd'"),
        (("ssd", 4, 64, "small", "cbam", "imagenet"), "starts from random weights"),
        (("ssd", 4, 64, "ResNet5"), "Did you mean"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_detector(*arguments)
