"""The networks of the CBAM paper, and released checkpoints into them."""

from keras_cbam.models.checkpoints import load_pytorch_checkpoint
from keras_cbam.models.mobilenet import MobileNet
from keras_cbam.models.resnet import (
    ResNet,
    ResNet14,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNeXt50,
    ResNeXt101,
    WideResNet18,
)

__all__ = [
    "MobileNet",
    "ResNeXt50",
    "ResNeXt101",
    "ResNet",
    "ResNet14",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "WideResNet18",
    "load_pytorch_checkpoint",
]
