"""Tables 4 and 5 of the CBAM paper (https://arxiv.org/abs/1807.06521), beside what we count."""

import dataclasses
import functools
from collections.abc import Iterator

from keras_cbam.cost import count_multiply_adds, count_parameters
from keras_cbam.models.mobilenet import MobileNet
from keras_cbam.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """What the code counts of a network, and what the paper reports."""

    network: str
    attention: str | None
    parameters: int  # trainable
    paper_parameters: int  # of the official code; they round to the paper's
    multiply_adds: int  # of an image of 224 x 224
    paper_gflops: float  # 1e9 multiply-adds
    paper_top_1_error: float | None  # on ImageNet-1K, in percent; None for SE
    paper_top_5_error: float | None

    @property
    def is_equal(self) -> bool:
        """Whether the parameters are equal, and the multiply-adds within 1 %."""
        difference = abs(self.multiply_adds / 1e9 - self.paper_gflops)
        return self.parameters == self.paper_parameters and difference <= 0.01 * self.paper_gflops


# The paper counts residual networks that stride in the first 1x1.
_resnet = functools.partial(functools.partial, ResNet, stride_in_first_1x1=True)
_RESNEXT = {"cardinality": 32, "base_width": 4}
# How a network is built, and its top-1 and top-5 errors plain and with CBAM.
NETWORKS = {
    "ResNet18": (_resnet(18), (29.60, 10.55), (29.27, 10.09)),
    "ResNet34": (_resnet(34), (26.69, 8.60), (25.99, 8.24)),
    "ResNet50": (_resnet(50), (24.56, 7.50), (22.66, 6.31)),
    "ResNet101": (_resnet(101), (23.38, 6.88), (21.51, 5.69)),
    "WideResNet18 (x1.5)": (_resnet(18, width=1.5), (26.85, 8.88), (26.10, 8.43)),
    "WideResNet18 (x2.0)": (_resnet(18, width=2.0), (25.63, 8.20), (24.84, 7.63)),
    "ResNeXt50 (32x4d)": (_resnet(50, **_RESNEXT), (22.85, 6.48), (21.92, 5.91)),
    "ResNeXt101 (32x4d)": (_resnet(101, **_RESNEXT), (21.54, 5.75), (21.07, 5.59)),
    "MobileNet (x0.7)": (functools.partial(MobileNet, alpha=0.7), (34.86, 13.69), (31.51, 11.48)),
    "MobileNet (x1.0)": (MobileNet, (31.39, 11.51), (29.01, 9.99)),
}
# Parameters and GFLOPs plain, with SE, with CBAM.
_COUNTS = {
    "ResNet18": ((11_689_512, 1.814), (11_778_592, 1.814), (11_779_392, 1.815)),
    "ResNet34": ((21_797_672, 3.664), (21_958_868, 3.664), (21_960_468, 3.665)),
    "ResNet50": ((25_557_032, 3.858), (28_088_024, 3.860), (28_089_624, 3.864)),
    "ResNet101": ((44_549_160, 7.570), (49_326_872, 7.575), (49_330_172, 7.581)),
    "WideResNet18 (x1.5)": ((25_875_816, 3.866), (26_074_716, 3.867), (26_075_516, 3.868)),
    "WideResNet18 (x2.0)": ((45_618_216, 6.696), (45_970_456, 6.696), (45_971_256, 6.697)),
    "ResNeXt50 (32x4d)": ((25_028_904, 3.768), (27_559_896, 3.771), (27_561_496, 3.774)),
    "ResNeXt101 (32x4d)": ((44_177_704, 7.508), (48_955_416, 7.512), (48_958_716, 7.519)),
    "MobileNet (x0.7)": ((2_298_747, 0.283), (2_704_594, 0.283), (2_707_194, 0.289)),
    "MobileNet (x1.0)": ((4_231_976, 0.569), (5_072_114, 0.570), (5_074_714, 0.576)),
}
ATTENTION = (None, "se", "cbam")


def paper_row(network: str, attention: str | None) -> PaperRow:
    """Builds one of `NETWORKS` with one of `ATTENTION`, and counts it as a `PaperRow`."""
    build, plain_errors, cbam_errors = NETWORKS[network]
    parameters, gflops = _COUNTS[network][ATTENTION.index(attention)]
    top_1, top_5 = {None: plain_errors, "se": (None, None), "cbam": cbam_errors}[attention]
    model = build(attention=attention)
    return PaperRow(
        network,
        attention,
        parameters=count_parameters(model),
        paper_parameters=parameters,
        multiply_adds=count_multiply_adds(model),
        paper_gflops=gflops,
        paper_top_1_error=top_1,
        paper_top_5_error=top_5,
    )


def paper_table() -> Iterator[PaperRow]:
    """Yields the `PaperRow` of every network: plain, with SE and with CBAM."""
    for network in NETWORKS:
        for attention in ATTENTION:
            yield paper_row(network, attention)
