"""Labelled images as `tf.data.Dataset`s of batches."""

import atexit
import contextlib
import functools
import threading
import time
import typing
from collections.abc import Callable, Iterator

import numpy as np

from keras_cbam.data.class_names import AUGMENTATIONS
from keras_cbam.data.crops import training_crop
from keras_cbam.data.image_files import decoding
from keras_cbam.data.labelled_images import LabelledImages
from keras_cbam.data.order import ONE_DEVICE, Devices, epoch_order, share
from keras_cbam.errors import one_of


class _Gate:
    """Lets no batch be read when Python ends.

    TensorFlow reads ahead in threads of its own. One that calls Python while that is being taken
    down waits for ever, and the iterator, which is deleted then, waits for it.
    """

    def __init__(self):
        import tensorflow as tf

        with tf.init_scope(), tf.device("CPU:0"):
            self.is_open = tf.Variable(tf.constant(True), trainable=False, name="is_open")
        self._lock, self._running = threading.Lock(), 0
        atexit.register(self._close)

    def counted(self, function):
        @functools.wraps(function)
        def call(*arguments):
            with self._lock:
                self._running += 1
            try:
                return function(*arguments)
            finally:
                with self._lock:
                    self._running -= 1

        return call

    def _close(self):
        self.is_open.assign(False)
        # What passed the gate before has time to come in, and is waited for.
        time.sleep(0.2)
        while self._running:
            time.sleep(0.01)


# One for the process, made when batches are first read.
_gate = functools.cache(_Gate)


def batched(
    rows: typing.Any, batch_size: int, read: Callable[..., typing.Any], signature: typing.Any
) -> typing.Any:
    """Reads rows in batches, several at a time and ahead of their use, in the given order.

    Args:
        rows: int64 array `(n, columns)`; or a pair of a function that gives one whenever an
            iteration starts, and `n`.
        batch_size: int. The last batch may be smaller.
        read: callable from the rows of one batch to a tuple of arrays.
        signature: tuple of `tf.TensorSpec` of these arrays.

    Returns:
        `tf.data.Dataset` of tuples of tensors, whose length is known.
    """
    import tensorflow as tf

    draw, count = rows if isinstance(rows, tuple) else (lambda: rows, len(rows))
    types = [spec.dtype for spec in signature]
    gate = _gate()

    def read_batch(rows):
        with tf.control_dependencies([tf.debugging.Assert(gate.is_open, ["Python has ended."])]):
            rows = tf.identity(rows)
        tensors = tf.numpy_function(gate.counted(read), [rows], types, stateful=False)
        return tuple(tf.ensure_shape(one, spec.shape) for one, spec in zip(tensors, signature))

    # One element, which becomes the rows of an iteration.
    dataset = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(tf.numpy_function(draw, [], tf.int64), (count, None))
    )
    dataset = dataset.unbatch().apply(tf.data.experimental.assert_cardinality(count))
    dataset = dataset.batch(batch_size)
    dataset = dataset.map(read_batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    options = tf.data.Options()
    # The thread that tunes sleeps, longer and longer, and the end of an iteration waits for it:
    # 8 seconds after an epoch of 13. Without it a batch is read on each core.
    options.autotune.enabled = False
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def training_batches(
    part: LabelledImages,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: str = "flip",
    first_step: int = 0,
    devices: Devices = ONE_DEVICE,
) -> typing.Any:
    """Batches of images and labels, shuffled by `seed` and `epoch` alone, and augmented.

    An image that cannot be decoded is replaced by the next one of its batch that can.

    Args:
        part: `LabelledImages`.
        batch_size: int, on all devices. The last batch of an epoch may be smaller.
        seed: int, of the order and the augmentation.
        epoch: int, from 0.
        augment: `"flip"`, left to right with probability one half; `"crop"`, see `training_crop`;
            or `"none"`. Defaults to `"flip"`.
        first_step: int, steps of the epoch that are left out. Defaults to `0`.
        devices: `Devices` that share a batch. Defaults to one.

    Returns:
        `tf.data.Dataset` of `(images, labels)`, uint8 `(batch, size, size, 3)` and int32
        `(batch,)`, to be read within `reading`.

    Raises:
        ValueError: if there is no such augmentation.

    Example:

    >>> with reading(data.train.images):
    ...     model.fit(training_batches(data.train, 32, seed=0, epoch=0), shuffle=False)
    """
    one_of(*AUGMENTATIONS)("augment", augment)

    def read(rows):
        def crop(image, position):
            generator = np.random.default_rng(rows[position, 1])
            return training_crop(image, part.images.shape[1], generator)

        pixels, rows = _read_whole(part.images, rows, crop if augment == "crop" else None)
        if augment == "flip":
            is_flipped = rows[:, 1] % 2 == 1
            pixels[is_flipped] = pixels[is_flipped, :, ::-1]
        return pixels, part.labels[rows[:, 0]]

    rows = np.stack(epoch_order(len(part), seed, epoch), axis=1)
    rows = share(rows, batch_size, devices, first_step)
    return batched(rows, batch_size // devices.processes, read, _signature(part))


def evaluation_batches(
    part: LabelledImages, batch_size: int, devices: Devices = ONE_DEVICE
) -> typing.Any:
    """Batches of images and labels in the given order, as those of `training_batches`.

    Predictions for images in `part.images.failures` are of others, and not to be counted.
    """

    def read(rows):
        pixels, rows = _read_whole(part.images, rows)
        return pixels, part.labels[rows[:, 0]]

    rows = share(np.arange(len(part))[:, None], batch_size, devices)
    return batched(rows, batch_size // devices.processes, read, _signature(part))


def _read_whole(images, rows, transform=None):
    """The pixels and rows of a whole batch, with others in the place of what cannot be decoded."""
    pixels, kept = images.read(rows[:, 0], transform)
    while not kept.any():
        # Those that follow; this ends, as the source raises if too many are unreadable.
        rows = np.concatenate([(rows[:, :1] + 1) % len(images), rows[:, 1:]], axis=1)
        pixels, kept = images.read(rows[:, 0], transform)
    if kept.all():
        return pixels, rows
    # As many are kept before a row as before the next one that is kept.
    places = (kept.cumsum() - kept) % kept.sum()
    return pixels[places], rows[kept][places]


def _signature(part):
    import tensorflow as tf

    pixels = tf.TensorSpec((None, *part.images.shape[1:]), tf.uint8)
    return pixels, tf.TensorSpec((None,), tf.int32)


@contextlib.contextmanager
def reading(*sources: typing.Any) -> Iterator[None]:
    """Within the block, batches of `FileImages` or `ArrayImages` are read: every use is in one.

    Raises:
        DataError: if a source raised it, which TensorFlow hides; the message names the image.
    """
    import tensorflow as tf

    for source in sources:
        source.error = None
    try:
        with decoding():
            yield
    except tf.errors.OpError as error:
        # TensorFlow keeps neither the kind of an error nor what it carries.
        for source in sources:
            if source.error is not None:
                raise source.error from error
        raise
