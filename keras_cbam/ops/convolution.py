"""The spatial gate's convolution as a product of matrices.

XLA on the CPU takes longer for a 7x7 convolution of two maps to one than for all the rest of CBAM.
"""

import itertools
import math

import numpy as np
from keras import ops

# The product's work grows with the square of the width, the convolution's with the width.
WIDEST_BANDED_MATRIX = 64


def convolve_by_matrix(maps, kernel):
    """ "Same" convolution to one map: along the width by banded matrices, one for each kernel row,
    whose products are then shifted along the other axes and added.

    Args:
        maps: tensor of shape `(batch, ..., width, maps)`.
        kernel: tensor of shape `(kernel_size, ..., maps, 1)`, of odd sizes.

    Returns:
        Tensor of shape `(batch, ..., width, 1)`.
    """
    *leading, width, number = maps.shape[1:]
    taps = kernel.shape[len(leading)]
    rows = math.prod(kernel.shape[: len(leading)])
    # bands[j] moves a row by j - taps // 2 places.
    bands = np.stack([np.eye(width, k=taps // 2 - j) for j in range(taps)])
    bands = ops.cast(bands.reshape(taps, width * width), kernel.dtype)
    kernel = ops.transpose(ops.reshape(kernel, (rows, taps, number)), (0, 2, 1))
    matrix = ops.matmul(ops.reshape(kernel, (rows * number, taps)), bands)
    matrix = ops.transpose(ops.reshape(matrix, (rows, number, width, width)), (2, 1, 0, 3))
    matrix = ops.reshape(matrix, (width * number, rows * width))
    products = ops.matmul(ops.reshape(maps, (-1, width * number)), matrix)
    products = ops.reshape(products, (-1, *leading, rows, width))
    half = taps // 2
    products = ops.pad(products, [(0, 0), *[(half, half)] * len(leading), (0, 0), (0, 0)])
    total = 0
    for row, shifts in enumerate(itertools.product(range(taps), repeat=len(leading))):
        window = tuple(slice(shift, shift + size) for shift, size in zip(shifts, leading))
        total = total + products[(slice(None), *window, row)]
    return ops.expand_dims(total, -1)
