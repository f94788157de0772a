"""The recipe: a compiled `model.fit` of a classifier, from random weights or from given ones."""

import contextlib
import math

import keras

from keras_cbam.data.batches import batches, training_batches
from keras_cbam.data.order import ONE_DEVICE
from keras_cbam.insertion.graph import is_searchable
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.training.arguments import jit_compile, validate_recipe
from keras_cbam.training.progress import Progress

# The rate of the second phase of a fine-tuning, as a part of that of the first.
SECOND_PHASE_RATE = 0.1
# Highest rates of training from random weights, from given ones, and of fine-tuning (AdamW).
RATE, RATE_FROM_WEIGHTS, FINE_TUNING_RATE = 0.15, 0.01, 0.003


def fit_classifier(
    model,
    data_set,
    epochs,
    batch_size=128,
    learning_rate=None,
    freeze_epochs=0,
    weight_decay=0.0,
    xla=False,
    flip=True,
    seed=0,
    verbose="auto",
    progress=None,
    devices=ONE_DEVICE,
):
    """Trains a classifier; with `freeze_epochs` in two phases, which is fine-tuning.

    Stochastic gradient descent with Nesterov momentum 0.9. The rate rises linearly over the first
    fifth of the steps and falls by a cosine.

    Fine-tuning: for `freeze_epochs` epochs only the attention layers and the layers outside the
    backbone train; then everything does, at a tenth of the learning rate. Each phase has a rise and
    fall of its own. The optimizer is AdamW. The batch normalization of the backbone is in inference
    mode and does not train, in both phases: its statistics are those of the pretrained weights.

    Decoupled weight decay, `w -= rate * weight_decay * w`, is for the kernels of the network: the
    attention layers, with their scalars `s`, and all biases and normalization parameters have none.

    Args:
        model: Functional `keras.Model` from pictures to class probabilities, that of
            `attention_classifier` for example. The models among its layers are its backbone.
        data_set: `DataSet`, see `load_data`.
        epochs: int, passes over the training pictures, those of `freeze_epochs` included.
        batch_size: int. Defaults to `128`.
        learning_rate: float, the highest rate. Defaults to `None`: 0.15, or 0.003 with
            `freeze_epochs`.
        freeze_epochs: int, at most `epochs`. Defaults to `0`: everything trains throughout.
        weight_decay: float. Defaults to `0.0`.
        xla: bool, whether the training step is compiled by XLA. Defaults to `False`.
        flip: bool, whether training pictures are flipped left to right at random.
            Defaults to `True`.
        seed: int, of the order of the pictures and the flips. Defaults to `0`.
        verbose: see `keras.Model.fit`. Defaults to `"auto"`.
        progress: `Progress` that keeps checkpoints, and may be one to go on from. Defaults to
            `None`: a new one that keeps none.
        devices: `Devices` that share a batch, see `distributed`. Defaults to one.

    Returns:
        Dict of lists, one number for each epoch: `accuracy`, `loss`, `val_accuracy`, `val_loss`.
        The model's trainable flags are as they were.

    Raises:
        ValueError: if an argument is outside its range, or `freeze_epochs` is given and the model
            has no backbone.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, input_shape=(96, 96, 3))
    >>> fit_classifier(model, data_set, epochs=3, freeze_epochs=1)
    """
    if learning_rate is None:
        learning_rate = FINE_TUNING_RATE if freeze_epochs else RATE
    validate_recipe(epochs, batch_size, learning_rate, freeze_epochs, weight_decay, seed)
    progress = Progress(seed=seed) if progress is None else progress
    test = batches(data_set.test_images, data_set.test_labels, batch_size, devices)

    def epoch_batches(epoch, first_step):
        return training_batches(
            data_set.train_images,
            data_set.train_labels,
            batch_size,
            seed,
            epoch,
            flip=flip,
            first_step=first_step,
            devices=devices,
        )

    pictures = len(data_set.train_labels)
    steps = math.ceil((pictures - pictures % devices.count) / batch_size)
    phases = [(freeze_epochs, learning_rate, _is_attention)] if freeze_epochs else []
    if epochs > freeze_epochs:
        phases.append(
            (epochs - freeze_epochs, SECOND_PHASE_RATE * learning_rate, _is_no_batch_norm)
            if freeze_epochs
            else (epochs, learning_rate, None)
        )
    done = 0
    for length, rate, is_trained in phases:
        with _frozen(model, is_trained):
            model.compile(
                optimizer=_optimizer(
                    model, bool(freeze_epochs), length * steps, rate, weight_decay
                ),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
                jit_compile=jit_compile(xla),
            )
            progress.restore(model, done, done + length)
            progress.fit(model, epochs, epoch_batches, test, done + length, verbose=verbose)
        done += length
    return progress.history


def _is_attention(layer):
    return isinstance(layer, AttentionLayer)


def _is_no_batch_norm(layer):
    return not isinstance(layer, keras.layers.BatchNormalization)


@contextlib.contextmanager
def _frozen(model, is_trained):
    """Within the block, only those layers of the backbone train of which `is_trained` is true."""
    if is_trained is None:
        yield
        return
    backbones = [layer for layer in model.layers if is_searchable(layer)]
    if not backbones:
        raise ValueError(
            "`freeze_epochs` needs a model with a backbone: a model among its layers. "
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
        for layer, flag in zip(layers, before):
            layer.trainable = flag


def _optimizer(model, is_fine_tuning, steps, rate, weight_decay):
    warmup = max(1, steps // 5)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=rate,
        warmup_steps=warmup,
    )
    if is_fine_tuning:
        # Without statistics of the batch, plain gradient steps diverge at rates that learn.
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
    else:
        optimizer = keras.optimizers.SGD(
            schedule, momentum=0.9, nesterov=True, weight_decay=weight_decay or None
        )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_list=_without_decay(model))
    return optimizer


def _without_decay(model):
    attention = [layer for layer in model._flatten_layers() if _is_attention(layer)]
    small = [weight for weight in model.weights if len(weight.shape) < 2]
    return small + [weight for layer in attention for weight in layer.weights]
