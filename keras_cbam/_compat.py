"""Every private name of a framework that the package uses, with what it replaces and why."""


def build_training_state(model, batch):
    """Makes the variables of a compiled model's optimizer, losses and metrics.

    Keras makes them at the first step, which TensorFlow then traces a second time; and a checkpoint
    within an epoch can be restored into variables that exist only. `Trainer._symbolic_build` is
    what `fit` itself calls on JAX and PyTorch (Keras 3.12 to 3.15); there is no public name for it.

    Args:
        model: compiled `keras.Model`.
        batch: tuple of the inputs and targets of a step, tensors or arrays.
    """
    model._symbolic_build(data_batch=batch)
