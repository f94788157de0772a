"""StairNet: SSD with top-down feature combining."""

from typing import Any

import keras

from keras_cbam._types import Attention
from keras_cbam.detection.models.extra_feature_maps import top_down
from keras_cbam.detection.models.ssd import SSD
from keras_cbam.errors import positive_integer


@keras.saving.register_keras_serializable(package="keras_cbam")
class StairNet(SSD):
    """StairNet: an SSD whose finer feature maps also see what the coarser ones found.

    From the coarsest feature map down, a 1x1 convolution of each is added to a 3x3 convolution of
    the enlarged sum above it; a 3x3 convolution of each sum predicts. All are batch-normalized.
    Where the authors' code enlarges by a transposed convolution, this resizes to the nearest
    position: as many parameters, and any ratio of sizes.

    Args:
        backbone, num_classes, attention: see `SSD`; attention refines the combined feature maps.
        filters: int, channels of the combined feature maps. Defaults to `256`.
        separable: bool, whether their 3x3 convolutions are separable. Defaults to `False`.
        **kwargs: see `SSD`.

    Example:

    >>> backbone = application_backbone("MobileNet", (96, 96, 3), weights=None, levels=(4, 5))
    >>> model = StairNet(backbone, 10, "cbam", filters=64, extra_filters=(128, 128))

    Source: [StairNet](https://arxiv.org/abs/1709.05788); [CBAM](https://arxiv.org/abs/1807.06521).
    """

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        attention: Attention = None,
        filters: int = 256,
        separable: bool = False,
        **kwargs: Any,
    ):
        # The parent's constructor builds with these.
        self.filters = positive_integer("filters", filters)
        self.separable = bool(separable)
        super().__init__(backbone, num_classes, attention, **kwargs)

    def predicting(self, levels: Any) -> list:
        return top_down(levels, self.filters, self.dtype_policy, self.separable)
