"""The optimization of ImageNet training, as the paper's official code has it in PyTorch."""

import contextlib

import keras

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
    train,
    test,
    epochs,
    learning_rate,
    decay_epochs,
    weight_decay,
    xla=False,
    verbose="auto",
):
    """Trains a classifier by stochastic gradient descent with momentum 0.9.

    Keras' momentum holds the rate, PyTorch's does not: after the rate has dropped, steps at the
    old one fade over some ten batches.

    Args:
        model: built `keras.Model` from pictures to class probabilities.
        train: `tf.data.Dataset` of batches, `(images, labels)`.
        test: as `train`.
        epochs: int.
        learning_rate: see `step_schedule`.
        decay_epochs: see `step_schedule`.
        weight_decay: see `coupled_weight_decay`.
        xla: bool, whether the training step is compiled by XLA. Defaults to `False`.
        verbose: see `keras.Model.fit`. Defaults to `"auto"`.

    Returns:
        Dict of lists, one number for each epoch: `accuracy`, `loss`, `val_accuracy`, `val_loss`,
        `learning_rate`. The losses include the regularizer of the weight decay.
    """
    with coupled_weight_decay(model, weight_decay):
        model.compile(
            optimizer=keras.optimizers.SGD(learning_rate, momentum=MOMENTUM),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=xla,
        )
        return model.fit(
            train,
            validation_data=test,
            epochs=epochs,
            callbacks=[step_schedule(learning_rate, decay_epochs)],
            shuffle=False,
            verbose=verbose,
        ).history
