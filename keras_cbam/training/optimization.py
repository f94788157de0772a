"""What the recipes of both tasks optimize with: learning rates, weight decay, frozen layers."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_cbam._compat import inner_layers
from keras_cbam.layers.attention_layer import AttentionLayer

MOMENTUM = 0.9


def warmed_up_cosine(rate: float, steps: int, warmup: int) -> Any:
    """A rate that rises linearly for `warmup` of `steps` and falls by a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=rate,
        warmup_steps=warmup,
    )


def divided_by_ten(rate: float, drops: Sequence[int]) -> Any:
    """A rate that is divided by ten after each of so many steps."""
    # A boundary is the last step at the rate before it.
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [drop - 1 for drop in drops], [rate / 10**i for i in range(len(drops) + 1)]
    )


def layers_without_attention(backbone: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a backbone, those of models in it too, that neither are nor hold attention.

    Outer ones come before inner ones, as a layer's flag `trainable` sets those inside it.
    """
    layers = inner_layers(backbone)
    attention = [layer for layer in layers if isinstance(layer, AttentionLayer)]
    kept = {id(inner) for layer in attention for inner in inner_layers(layer)}
    return [
        layer for layer in layers if not any(id(inner) in kept for inner in inner_layers(layer))
    ]


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
