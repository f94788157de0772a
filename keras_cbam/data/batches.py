"""Arrays of pictures as a `tf.data.Dataset` of batches."""

import numpy as np

from keras_cbam.data.order import ONE_DEVICE, epoch_order, share


def training_batches(
    images, labels, batch_size, seed, epoch, flip=False, first_step=0, devices=ONE_DEVICE
):
    """Batches of pictures and labels in the order of an epoch.

    Args:
        images: uint8 array of shape `(pictures, height, width, channels)`, or what gives such a
            one for an array of indices.
        labels: int array of shape `(pictures,)`.
        batch_size: int, on all devices.
        seed: int, of the order and the flips.
        epoch: int, from 0.
        flip: bool, whether each picture is flipped left to right with probability one half.
            Defaults to `False`.
        first_step: int, steps of the epoch that are left out. Defaults to `0`.
        devices: `Devices` that share a batch. Defaults to one.

    Returns:
        `tf.data.Dataset` of `(images, labels)`, uint8 `(batch, height, width, channels)` and
        int32 `(batch,)`. The last batch of an epoch may be smaller.
    """
    order, numbers = epoch_order(len(labels), seed, epoch)
    return _batches(
        images, labels, order, numbers % 2 if flip else None, batch_size, first_step, devices
    )


def batches(images, labels, batch_size, devices=ONE_DEVICE):
    """Batches of pictures and labels in the given order; as `training_batches` otherwise."""
    return _batches(images, labels, np.arange(len(labels)), None, batch_size, 0, devices)


def _batches(images, labels, order, flips, batch_size, first_step, devices):
    import tensorflow as tf

    flips = np.zeros(len(order), "int64") if flips is None else flips
    rows = share(np.stack([order, flips], axis=1), batch_size, devices, first_step)
    size = images.shape[1:]

    def read(rows):
        index, is_flipped = rows[:, 0], rows[:, 1] == 1
        pictures = np.asarray(images[index])
        pictures[is_flipped] = pictures[is_flipped, :, ::-1]
        return pictures, labels[index].astype("int32")

    def example(rows):
        pictures, classes = tf.numpy_function(read, [rows], [tf.uint8, tf.int32], stateful=False)
        return tf.ensure_shape(pictures, (None, *size)), tf.ensure_shape(classes, (None,))

    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size // devices.processes)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)
