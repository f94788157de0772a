"""How a classifier is optimized: the three recipes, each as phases of one optimizer."""

import contextlib
import math

import keras

from keras_cbam._compat import inner_layers
from keras_cbam.insertion.graph import is_searchable
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.training.optimization import (
    MOMENTUM,
    coupled_weight_decay,
    divided_by_ten,
    layers_without_attention,
    warmed_up_cosine,
)
from keras_cbam.training.precision import jit_compile
from keras_cbam.training.task import Phase

# The rate of the second phase of a fine-tuning, as a part of that of the first.
SECOND_PHASE_RATE = 0.1


def recipe_phases(arguments, model, steps):
    """Returns the phases of a recipe, for so many `steps` an epoch.

    `"default"`: stochastic gradient descent with Nesterov momentum 0.9. The rate rises linearly
    over the first fifth of the steps and falls by a cosine.

    `"fine-tuning"`: AdamW. For `freeze_epochs` epochs only the attention layers and the layers
    outside the backbone (the models among the layers) train; then everything except the batch
    normalization of the backbone, at a tenth of the rate. Each phase has its own rise and fall.

    In both, weight decay is decoupled, `w -= rate * weight_decay * w`, and for kernels only.

    `"paper"`, the ImageNet training of the paper's official code: stochastic gradient descent with
    momentum 0.9, the rate divided by ten after every `decay_epochs` epochs, and PyTorch's weight
    decay. Keras' momentum holds the rate: after a drop, steps at the old one fade away.
    """
    if arguments.recipe == "paper":
        return [Phase(arguments.epochs, lambda: _paper(arguments, model, steps))]
    if arguments.recipe == "default":
        return [Phase(arguments.epochs, lambda: _default(arguments, model, steps))]
    rates = (arguments.learning_rate, SECOND_PHASE_RATE * arguments.learning_rate)
    epochs = (arguments.freeze_epochs, arguments.epochs - arguments.freeze_epochs)
    frozen = (keras.layers.Layer, keras.layers.BatchNormalization)

    def phase(rate, epochs, kind):
        return Phase(epochs, lambda: _fine_tuning(arguments, model, epochs * steps, rate, kind))

    return [found for found in map(phase, rates, epochs, frozen) if found.epochs]


@contextlib.contextmanager
def _default(arguments, model, steps):
    schedule = _cosine(arguments.learning_rate, arguments.epochs * steps)
    decay = arguments.weight_decay or None
    optimizer = keras.optimizers.SGD(schedule, MOMENTUM, nesterov=True, weight_decay=decay)
    _compile(arguments, model, _with_decay_of_kernels(optimizer, model))
    yield


@contextlib.contextmanager
def _fine_tuning(arguments, model, steps, rate, kind):
    with frozen(model, kind):
        # Without statistics of the batch, plain gradient steps diverge at rates that learn.
        optimizer = keras.optimizers.AdamW(_cosine(rate, steps), arguments.weight_decay)
        _compile(arguments, model, _with_decay_of_kernels(optimizer, model))
        yield


@contextlib.contextmanager
def _paper(arguments, model, steps):
    # Past the end there is one, as Keras takes no schedule without a drop.
    drops = range(1, max(2, math.ceil(arguments.epochs / arguments.decay_epochs)))
    drops = [drop * arguments.decay_epochs * steps for drop in drops]
    schedule = divided_by_ten(arguments.learning_rate, drops)
    with coupled_weight_decay(model.trainable_variables, arguments.weight_decay):
        _compile(arguments, model, keras.optimizers.SGD(schedule, MOMENTUM))
        yield


def _compile(arguments, model, optimizer):
    loss = "sparse_categorical_crossentropy"
    if arguments.label_smoothing:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=arguments.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile(arguments.xla))


def _cosine(rate, steps):
    return warmed_up_cosine(rate, steps, max(1, steps // 5))


def _with_decay_of_kernels(optimizer, model):
    layers = [layer for layer in inner_layers(model) if isinstance(layer, AttentionLayer)]
    excluded = [weight for layer in layers for weight in layer.weights]
    excluded += [weight for weight in model.weights if len(weight.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=excluded)
    return optimizer


@contextlib.contextmanager
def frozen(model, kind):
    """Within the block, layers of a class in the backbone do not train, except attention."""
    backbones = [layer for layer in model.layers if is_searchable(layer)]
    if not backbones:
        raise ValueError(
            "The recipe 'fine-tuning' needs a model with a backbone: a model among its layers. "
            f"Received: {model!r}"
        )
    layers = [layer for backbone in backbones for layer in inner_layers(backbone)]
    before = [layer.trainable for layer in layers]
    for backbone in backbones:
        for layer in layers_without_attention(backbone):
            if isinstance(layer, kind):
                layer.trainable = False
    try:
        yield
    finally:
        for layer, is_trainable in zip(layers, before):
            layer.trainable = is_trainable
