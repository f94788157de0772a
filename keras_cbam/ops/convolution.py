"""The spatial gate's convolution as a product of matrices.

XLA on the CPU takes longer for a 7x7 convolution of two maps to one than for all the rest of CBAM.
"""

import itertools
import math

import numpy as np
from keras import ops

# Positions of a row that one product makes: more cost work, fewer make small products.
TILE = 28


def convolve_by_matrix(maps, kernel):
    """ "Same" convolution to one map.

    Along the width it is a product of overlapping pieces of the rows with banded matrices, one for
    each row of the kernel; the products are then shifted along the other axes and added.

    Args:
        maps: tensor of shape `(batch, ..., width, maps)`.
        kernel: tensor of shape `(kernel_size, ..., maps, 1)`, of odd sizes.

    Returns:
        Tensor of shape `(batch, ..., width, 1)`.
    """
    *leading, width, number = maps.shape[1:]
    taps = kernel.shape[len(leading)]
    rows = math.prod(kernel.shape[: len(leading)])
    half = taps // 2
    tile = min(TILE, width)
    tiles = -(-width // tile)
    piece = tile + 2 * half
    # bands[j] takes from a piece what the kernel's element j multiplies.
    bands = np.stack([np.eye(piece, tile, k=-j) for j in range(taps)])
    bands = ops.cast(bands.reshape(taps, piece * tile), kernel.dtype)
    kernel = ops.transpose(ops.reshape(kernel, (rows, taps, number)), (0, 2, 1))
    matrix = ops.matmul(ops.reshape(kernel, (rows * number, taps)), bands)
    matrix = ops.transpose(ops.reshape(matrix, (rows, number, piece, tile)), (2, 1, 0, 3))
    matrix = ops.reshape(matrix, (piece * number, rows * tile))
    none, around = [(0, 0)], [(half, half)]
    maps = ops.pad(maps, none * (len(leading) + 1) + [(half, half + tiles * tile - width)] + none)
    pieces = ops.stack(
        [maps[..., start : start + piece, :] for start in range(0, tiles * tile, tile)],
        axis=len(leading) + 1,
    )
    products = ops.matmul(ops.reshape(pieces, (-1, piece * number)), matrix)
    products = ops.reshape(products, (-1, *leading, tiles, rows, tile))
    products = ops.pad(products, none + around * len(leading) + none * 3)
    total = 0
    for row, shifts in enumerate(itertools.product(range(taps), repeat=len(leading))):
        window = tuple(slice(shift, shift + size) for shift, size in zip(shifts, leading))
        total = total + products[(slice(None), *window, slice(None), row)]
    total = ops.reshape(total, (-1, *leading, tiles * tile))
    return ops.expand_dims(total[..., :width], -1)
