"""Weight decay as a part of the gradient, for trainings whose papers have it so."""

import contextlib
from collections.abc import Iterator, Sequence

import keras


@contextlib.contextmanager
def coupled_weight_decay(variables: Sequence[keras.Variable], weight_decay: float) -> Iterator:
    """Within the block, `weight_decay * w` is part of the gradient of each of these variables.

    So it passes through the momentum, as PyTorch's and Caffe's does.
    """
    before = [variable.regularizer for variable in variables]
    penalty = keras.regularizers.L2(weight_decay / 2)

    def with_penalty(own):
        return penalty if own is None else lambda variable: own(variable) + penalty(variable)

    try:
        for variable, own in zip(variables, before if weight_decay else ()):
            variable.regularizer = with_penalty(own)
        yield
    finally:
        for variable, own in zip(variables, before):
            variable.regularizer = own
