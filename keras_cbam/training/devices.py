"""On which devices a training runs."""

import contextlib
import os

import keras
import numpy as np

from keras_cbam.data.order import ONE_DEVICE, Devices
from keras_cbam.errors import DataError, one_of
from keras_cbam.training.arguments import DISTRIBUTIONS


def validate_distribution(distribute, batch_size):
    """Raises ValueError if the backend cannot distribute so, or a batch cannot be divided."""
    if distribute is None:
        return
    one_of(*DISTRIBUTIONS)("distribute", distribute)
    backend, needed = keras.backend.backend(), DISTRIBUTIONS[distribute]
    if backend != needed:
        raise ValueError(
            f"`distribute={distribute!r}` needs the backend {needed!r}: set the environment "
            f"variable KERAS_BACKEND={needed}. Received: backend={backend!r}"
        )
    count = find_devices(distribute).count
    if batch_size % count:
        raise ValueError(
            f"`batch_size` must be a multiple of the {count} devices that share a batch. "
            f"Received: batch_size={batch_size}"
        )


def find_devices(distribute):
    """The `Devices` of a distribution, see `distributed`; joins the processes there are."""
    if keras.backend.backend() != "tensorflow":
        import tensorflow as tf

        # TensorFlow only reads images then, and would take all of the GPUs' memory. Refused where
        # the caller has used it before.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    if distribute is None:
        return ONE_DEVICE
    count = len(_devices(distribute))
    if distribute == "mirrored":
        return Devices(count)
    import jax

    return Devices(count, jax.process_count(), jax.process_index())


def distributed(distribute):
    """Returns a context, within which models are built and trained on all devices."""
    if distribute is None:
        return contextlib.nullcontext()
    devices = _devices(distribute)
    if distribute == "mirrored":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(devices).scope()
    # Each process reads its own share of a batch, see `share`.
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False).scope()


def check_same_in_all_processes(numbers, devices):
    """Raises DataError if the processes differ in those integers."""
    if devices.processes == 1:
        return
    from jax.experimental import multihost_utils

    found = multihost_utils.process_allgather(np.array(numbers))
    if (found != found[0]).any():
        raise DataError(
            "The processes do not see the same checkpoint: the output folder must be on a disk "
            f"that they share. Received: epoch and step {found.tolist()}."
        )


def _devices(distribute):
    if distribute == "data_parallel":
        import jax

        # The processes find each other by the environment, see `keras.distribution.initialize`.
        is_one_of_several = "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ
        if is_one_of_several and not jax.distributed.is_initialized():
            keras.distribution.initialize()
        return keras.distribution.list_devices()
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]
