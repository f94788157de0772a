"""Sums and maxima of an expression over one axis, in the form that the compiler makes fast.

XLA on the CPU writes the expression to memory before it reduces it, or reduces it number by number.
Written out, `f(part 0) + f(part 1) + ...`, it is one vectorized pass that stores only the sums.
On other devices the plain reduction is faster.
"""

from keras import ops

from keras_cbam.ops.compilation import compiles_for_cpu

# Parts to write out: few enough to compile in seconds, enough to leave little to reduce.
MOST_PARTS = 64
MOST_ROWS = 16
FEWEST_ROWS = 4
VECTOR_SIZES = (16, 64, 8)

COMBINE = {"sum": ops.add, "max": ops.maximum}
REDUCE = {"sum": ops.sum, "max": ops.max}


def reduce_expression(method, expression, operands, axis):
    """`method` of `expression(*operands)` over `axis`, which stays with size 1.

    Args:
        method: string, `"sum"` or `"max"`.
        expression: elementwise function of the operands.
        operands: tensors of shape `(batch, m, n)`, where `m` or `n` may be 1: it is broadcast.
        axis: int, `1` or `2`.

    Returns:
        Tensor of shape `(batch, 1, n)` or `(batch, m, 1)`.
    """
    parts = None
    if compiles_for_cpu():
        parts = (row_parts if axis == 1 else vector_parts)(operands)
    if parts is None:
        values = expression(*operands)
    else:
        values = combine_in_pairs(COMBINE[method], [expression(*part) for part in parts])
    return REDUCE[method](values, axis=axis, keepdims=True)


def vector_parts(operands):
    """The operands' slices along the last axis, or `None` where it divides badly."""
    size = max(operand.shape[2] for operand in operands)
    for vector in VECTOR_SIZES:
        if size % vector == 0 and 2 <= size // vector <= MOST_PARTS:
            return [
                [
                    operand if operand.shape[2] == 1 else operand[:, :, start : start + vector]
                    for operand in operands
                ]
                for start in range(0, size, vector)
            ]
    return None


def row_parts(operands):
    """Every k-th row of the operands for each remainder, or `None` where no k is suitable."""
    size = max(operand.shape[1] for operand in operands)
    number = next((k for k in range(MOST_ROWS, FEWEST_ROWS - 1, -1) if size % k == 0), None)
    if number is None:
        return None
    folded = [
        operand
        if operand.shape[1] == 1
        else ops.reshape(operand, (-1, size // number, number, operand.shape[2]))
        for operand in operands
    ]
    return [
        [operand if len(operand.shape) == 3 else operand[:, :, row] for operand in folded]
        for row in range(number)
    ]


def combine_in_pairs(combine, terms):
    # One long chain of maxima takes LLVM minutes to compile, and a sum in pairs rounds less.
    while len(terms) > 1:
        pairs = [combine(*pair) for pair in zip(terms[::2], terms[1::2])]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]
