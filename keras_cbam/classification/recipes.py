"""How a classifier is optimized: the three recipes, each as phases of one optimizer."""

import contextlib
import math

import keras

from keras_cbam.insertion.graph import is_searchable
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.training.precision import jit_compile
from keras_cbam.training.task import Phase

# The rate of the second phase of a fine-tuning, as a part of that of the first.
SECOND_PHASE_RATE = 0.1
MOMENTUM = 0.9


def recipe_phases(arguments, model, steps):
    """The phases of a recipe.

    `"default"` is stochastic gradient descent with Nesterov momentum 0.9. The rate rises linearly
    over the first fifth of the steps and falls by a cosine.

    `"fine-tuning"`: for `freeze_epochs` epochs only the attention layers and the layers outside the
    backbone train; then everything does, at a tenth of the learning rate. Each phase has a rise and
    fall of its own. The optimizer is AdamW. The batch normalization of the backbone is in inference
    mode and does not train, in both phases: its statistics are those of the pretrained weights.

    In both, decoupled weight decay, `w -= rate * weight_decay * w`, is for the kernels of the
    network: the attention layers and all biases and normalization parameters have none.

    `"paper"` is the training of the paper's official code on ImageNet: stochastic gradient descent
    with momentum 0.9, the rate divided by ten after every `decay_epochs` epochs, and weight decay
    as PyTorch has it, see `coupled_weight_decay`. Keras' momentum holds the rate, PyTorch's does
    not: after the rate has dropped, steps at the old one fade over some ten batches.

    Args:
        arguments: `ClassifierArguments`.
        model: built `keras.Model` from images to class probabilities. The models among its layers
            are its backbone.
        steps: int, of an epoch.

    Returns:
        List of `Phase`.

    Raises:
        ValueError: if the recipe is fine-tuning and the model has no backbone.
    """
    if arguments.recipe == "paper":
        return [Phase(arguments.epochs, lambda: _paper(arguments, model, steps))]
    if arguments.recipe == "default":
        return [Phase(arguments.epochs, lambda: _default(arguments, model, steps))]
    frozen, rest = arguments.freeze_epochs, arguments.epochs - arguments.freeze_epochs
    rate = arguments.learning_rate
    phases = [
        Phase(frozen, lambda: _fine_tuning(arguments, model, frozen * steps, rate, _is_attention)),
        Phase(
            rest,
            lambda: _fine_tuning(
                arguments, model, rest * steps, SECOND_PHASE_RATE * rate, _is_no_batch_norm
            ),
        ),
    ]
    return [phase for phase in phases if phase.epochs]


def _compile(arguments, model, optimizer):
    if arguments.label_smoothing:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=arguments.label_smoothing)
    else:
        loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile(arguments.xla))


@contextlib.contextmanager
def _default(arguments, model, steps):
    optimizer = keras.optimizers.SGD(
        _cosine(arguments.learning_rate, arguments.epochs * steps),
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=arguments.weight_decay or None,
    )
    _exclude_from_decay(optimizer, arguments, model)
    _compile(arguments, model, optimizer)
    yield


@contextlib.contextmanager
def _fine_tuning(arguments, model, steps, rate, is_trained):
    with frozen_except(model, is_trained):
        # Without statistics of the batch, plain gradient steps diverge at rates that learn.
        optimizer = keras.optimizers.AdamW(
            _cosine(rate, steps), weight_decay=arguments.weight_decay
        )
        _exclude_from_decay(optimizer, arguments, model)
        _compile(arguments, model, optimizer)
        yield


@contextlib.contextmanager
def _paper(arguments, model, steps):
    # Past the end there is one, as Keras takes no schedule without a drop.
    drops = range(1, max(2, math.ceil(arguments.epochs / arguments.decay_epochs)))
    # A boundary is the last step at the rate before it.
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [drop * arguments.decay_epochs * steps - 1 for drop in drops],
        [arguments.learning_rate / 10**drop for drop in (0, *drops)],
    )
    with coupled_weight_decay(model, arguments.weight_decay):
        _compile(arguments, model, keras.optimizers.SGD(schedule, momentum=MOMENTUM))
        yield


def _cosine(rate, steps):
    warmup = max(1, steps // 5)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=rate,
        warmup_steps=warmup,
    )


def _is_attention(layer):
    return isinstance(layer, AttentionLayer)


def _is_no_batch_norm(layer):
    return not isinstance(layer, keras.layers.BatchNormalization)


def _exclude_from_decay(optimizer, arguments, model):
    if not arguments.weight_decay:
        return
    attention = [layer for layer in model._flatten_layers() if _is_attention(layer)]
    small = [weight for weight in model.weights if len(weight.shape) < 2]
    own = [weight for layer in attention for weight in layer.weights]
    optimizer.exclude_from_weight_decay(var_list=small + own)


@contextlib.contextmanager
def frozen_except(model, is_trained):
    """Within the block, only those layers of the backbone train of which `is_trained` is true.

    Attention layers always do.

    Args:
        model: `keras.Model` with a model among its layers, which is its backbone.
        is_trained: function of a layer.
    """
    backbones = [layer for layer in model.layers if is_searchable(layer)]
    if not backbones:
        raise ValueError(
            "The recipe 'fine-tuning' needs a model with a backbone: a model among its layers. "
            f"Received: {model!r}"
        )
    # Outer before inner: a layer's flag sets those of the layers inside it.
    layers = [layer for backbone in backbones for layer in backbone._flatten_layers()]
    before = [layer.trainable for layer in layers]
    attention = [layer for layer in layers if _is_attention(layer)]
    kept = {id(inner) for layer in attention for inner in layer._flatten_layers()}
    for layer in layers:
        holds_attention = any(id(inner) in kept for inner in layer._flatten_layers())
        if not holds_attention and not is_trained(layer):
            layer.trainable = False
    try:
        yield
    finally:
        for layer, is_trainable in zip(layers, before):
            layer.trainable = is_trainable


@contextlib.contextmanager
def coupled_weight_decay(model, weight_decay):
    """Within the block, `weight_decay * w` is part of the gradient of every trainable variable.

    PyTorch's `weight_decay`: it passes through the momentum, and is for biases and normalization
    parameters too. It is the gradient of the regularizer `weight_decay / 2 * sum(w ** 2)`, which
    the model's losses include. A regularizer that a variable has is added to.

    Args:
        model: built `keras.Model`, to be compiled within the block.
        weight_decay: float; 0 for none.
    """
    variables = model.trainable_variables
    before = [variable.regularizer for variable in variables]
    penalty = keras.regularizers.L2(weight_decay / 2)
    try:
        for variable, own in zip(variables, before):
            if weight_decay:
                variable.regularizer = _sum(own, penalty)
        yield
    finally:
        for variable, own in zip(variables, before):
            variable.regularizer = own


def _sum(own, penalty):
    if own is None:
        return penalty
    return lambda variable: own(variable) + penalty(variable)
