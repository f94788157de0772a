"""The optimization of ImageNet training, as the paper's official code has it in PyTorch."""

import contextlib

import keras

from keras_cbam.training.arguments import jit_compile
from keras_cbam.training.progress import Progress

MOMENTUM = 0.9


def step_schedule(learning_rate, decay_epochs):
    """A callback that divides the rate by ten after every `decay_epochs` epochs.

    Args:
        learning_rate: float, the rate of the first epochs.
        decay_epochs: int.

    Returns:
        A `keras.callbacks.LearningRateScheduler`, which adds `learning_rate` to the history.
    """
    return keras.callbacks.LearningRateScheduler(
        lambda epoch, _: float(learning_rate / 10 ** (epoch // decay_epochs))
    )


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


def fit_by_steps(
    model,
    epoch_batches,
    test,
    epochs,
    learning_rate,
    decay_epochs,
    weight_decay,
    xla=False,
    verbose="auto",
    progress=None,
):
    """Trains a classifier by stochastic gradient descent with momentum 0.9.

    Keras' momentum holds the rate, PyTorch's does not: after the rate has dropped, steps at the
    old one fade over some ten batches.

    Args:
        model: built `keras.Model` from pictures to class probabilities.
        epoch_batches: callable that gives an epoch's `tf.data.Dataset` of batches,
            `(images, labels)`, for the number of the epoch and that of its first step.
        test: `tf.data.Dataset` of batches.
        epochs: int.
        learning_rate: see `step_schedule`.
        decay_epochs: see `step_schedule`.
        weight_decay: see `coupled_weight_decay`.
        xla: bool, whether the training step is compiled by XLA. Defaults to `False`.
        verbose: see `keras.Model.fit`. Defaults to `"auto"`.
        progress: see `fit_classifier`. Defaults to `None`.

    Returns:
        Dict of lists, one number for each epoch: `accuracy`, `loss`, `val_accuracy`, `val_loss`,
        `learning_rate`. The losses include the regularizer of the weight decay.
    """
    progress = Progress() if progress is None else progress
    with coupled_weight_decay(model, weight_decay):
        model.compile(
            optimizer=keras.optimizers.SGD(learning_rate, momentum=MOMENTUM),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=jit_compile(xla),
        )
        progress.restore(model, 0, epochs)
        schedule = step_schedule(learning_rate, decay_epochs)
        progress.fit(model, epochs, epoch_batches, test, epochs, [schedule], verbose)
    return progress.history
