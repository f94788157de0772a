"""Tables 4 and 5 of the CBAM paper, beside what the code counts."""

import dataclasses
import functools

from keras_cbam.cost import count_multiply_adds, count_parameters
from keras_cbam.models.mobilenet import MobileNet
from keras_cbam.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """One network of the paper.

    Attributes:
        network: string.
        attention: `None`, `"se"` or `"cbam"`.
        parameters: int, the trainable parameters that the code counts.
        paper_parameters: int, those of the official code, which round to the paper's.
        multiply_adds: int, of one picture of 224 x 224, that the code counts.
        paper_gflops: float, the paper's, in 1e9 multiply-adds.
        paper_top_1_error, paper_top_5_error: floats, the paper's errors on ImageNet-1K in
            percent; `None` for SE.
    """

    network: str
    attention: object
    parameters: int
    paper_parameters: int
    multiply_adds: int
    paper_gflops: float
    paper_top_1_error: object
    paper_top_5_error: object

    @property
    def is_equal(self):
        """Whether the parameters are equal, and the multiply-adds within 1 %."""
        difference = abs(self.multiply_adds / 1e9 - self.paper_gflops)
        return self.parameters == self.paper_parameters and difference <= 0.01 * self.paper_gflops


# The paper counts residual networks that stride in the first 1x1.
_resnet = functools.partial(ResNet, stride_in_first_1x1=True)
_RESNEXT = {"cardinality": 32, "base_width": 4}
# Network; parameters and GFLOPs plain, with SE, with CBAM; top-1 and top-5 error plain, with CBAM.
_PAPER = {
    "ResNet18": (
        functools.partial(_resnet, 18),
        ((11_689_512, 1.814), (11_778_592, 1.814), (11_779_392, 1.815)),
        ((29.60, 10.55), (29.27, 10.09)),
    ),
    "ResNet34": (
        functools.partial(_resnet, 34),
        ((21_797_672, 3.664), (21_958_868, 3.664), (21_960_468, 3.665)),
        ((26.69, 8.60), (25.99, 8.24)),
    ),
    "ResNet50": (
        functools.partial(_resnet, 50),
        ((25_557_032, 3.858), (28_088_024, 3.860), (28_089_624, 3.864)),
        ((24.56, 7.50), (22.66, 6.31)),
    ),
    "ResNet101": (
        functools.partial(_resnet, 101),
        ((44_549_160, 7.570), (49_326_872, 7.575), (49_330_172, 7.581)),
        ((23.38, 6.88), (21.51, 5.69)),
    ),
    "WideResNet18 (x1.5)": (
        functools.partial(_resnet, 18, width=1.5),
        ((25_875_816, 3.866), (26_074_716, 3.867), (26_075_516, 3.868)),
        ((26.85, 8.88), (26.10, 8.43)),
    ),
    "WideResNet18 (x2.0)": (
        functools.partial(_resnet, 18, width=2.0),
        ((45_618_216, 6.696), (45_970_456, 6.696), (45_971_256, 6.697)),
        ((25.63, 8.20), (24.84, 7.63)),
    ),
    "ResNeXt50 (32x4d)": (
        functools.partial(_resnet, 50, **_RESNEXT),
        ((25_028_904, 3.768), (27_559_896, 3.771), (27_561_496, 3.774)),
        ((22.85, 6.48), (21.92, 5.91)),
    ),
    "ResNeXt101 (32x4d)": (
        functools.partial(_resnet, 101, **_RESNEXT),
        ((44_177_704, 7.508), (48_955_416, 7.512), (48_958_716, 7.519)),
        ((21.54, 5.75), (21.07, 5.59)),
    ),
    "MobileNet (x0.7)": (
        functools.partial(MobileNet, alpha=0.7),
        ((2_298_747, 0.283), (2_704_594, 0.283), (2_707_194, 0.289)),
        ((34.86, 13.69), (31.51, 11.48)),
    ),
    "MobileNet (x1.0)": (
        MobileNet,
        ((4_231_976, 0.569), (5_072_114, 0.570), (5_074_714, 0.576)),
        ((31.39, 11.51), (29.01, 9.99)),
    ),
}
ATTENTION = (None, "se", "cbam")


def paper_networks():
    """The names of the networks of tables 4 and 5."""
    return list(_PAPER)


def paper_row(network, attention):
    """Builds one network and counts it.

    Args:
        network: string, one of `paper_networks()`.
        attention: `None`, `"se"` or `"cbam"`.

    Returns:
        A `PaperRow`.

    Example:

    >>> paper_row("ResNet18", "cbam").parameters
    11779392
    """
    build, counts, errors = _PAPER[network]
    parameters, gflops = counts[ATTENTION.index(attention)]
    top_1, top_5 = {None: errors[0], "cbam": errors[1]}.get(attention, (None, None))
    model = build(attention=attention)
    return PaperRow(
        network,
        attention,
        count_parameters(model),
        parameters,
        count_multiply_adds(model),
        gflops,
        top_1,
        top_5,
    )


def paper_table():
    """Every network of tables 4 and 5, built and counted.

    Yields:
        A `PaperRow` for each network, plain, with SE and with CBAM.

    Example:

    >>> all(row.is_equal for row in paper_table())
    True

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), tables 4 and 5. The parameters are
      exact integers of the official code's networks; the paper rounds them.
    """
    for network in _PAPER:
        for attention in ATTENTION:
            yield paper_row(network, attention)
