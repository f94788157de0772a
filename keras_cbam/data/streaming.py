"""Picture files as `tf.data.Dataset`s of batches, decoded when they are due."""

import contextlib

import numpy as np

from keras_cbam.data.crops import evaluation_crop, training_crop
from keras_cbam.data.image_files import decoding, open_picture, why_unreadable
from keras_cbam.data.order import ONE_DEVICE, epoch_order, share
from keras_cbam.errors import DataError, quoted


@contextlib.contextmanager
def picture_streams(size):
    """Within the block, picture files can be read as batches of pictures of that size.

    Nothing is trained on a picture that cannot be decoded: the block ends.

    Args:
        size: int, side of the pictures in pixels.

    Yields:
        `PictureStreams`.

    Raises:
        DataError: at the end of the block, if a picture could not be decoded; the message names it.
    """
    import tensorflow as tf

    streams = PictureStreams(size)
    try:
        with decoding():
            yield streams
    except tf.errors.OpError as error:
        if streams.failure is None:
            raise
        raise DataError(streams.failure) from error


class PictureStreams:
    """What `picture_streams` gives.

    Attributes:
        size: int, side of the pictures in pixels.
        failure: `None`, or a sentence on the picture that could not be decoded.
    """

    def __init__(self, size):
        self.size = size
        self.failure = None

    def training(self, files, batch_size, seed, epoch, flip=True, first_step=0, devices=ONE_DEVICE):
        """Batches in the order of an epoch, of crops that are new in every one.

        Args:
            files: `PictureFiles`.
            batch_size: int, on all devices.
            seed: int, of the order and the crops.
            epoch: int, from 0.
            flip: bool, see `training_crop`. Defaults to `True`.
            first_step: int, steps of the epoch that are left out. Defaults to `0`.
            devices: `Devices` that share a batch. Defaults to one.

        Returns:
            `tf.data.Dataset` of `(images, labels)`, uint8 `(batch, size, size, 3)` and int32
            `(batch,)`. The last batch of an epoch may be smaller.
        """

        def crop(image, number):
            return training_crop(image, self.size, flip, np.random.default_rng(number))

        rows = np.stack(epoch_order(len(files.paths), seed, epoch), axis=1)
        rows = share(rows, batch_size, devices, first_step)
        return self._batches(files, rows, batch_size // devices.processes, crop)

    def evaluation(self, files, batch_size, devices=ONE_DEVICE):
        """Batches of evaluation crops in the given order; as `training` otherwise."""

        def crop(image, _):
            return evaluation_crop(image, self.size)

        indices = np.arange(len(files.paths))
        rows = share(np.stack([indices, indices], axis=1), batch_size, devices)
        return self._batches(files, rows, batch_size // devices.processes, crop)

    def _batches(self, files, rows, batch_size, crop):
        import tensorflow as tf

        def read(row):
            index, number = row
            try:
                return crop(open_picture(files.paths[index]), number)
            except Exception as error:
                # TensorFlow keeps neither the kind of an error nor what it carries.
                path = quoted(files.paths[index])
                self.failure = f"The picture {path} cannot be read: {why_unreadable(error)}."
                raise

        labels = tf.constant(files.labels)

        def example(row):
            pixels = tf.numpy_function(read, [row], tf.uint8)
            return tf.ensure_shape(pixels, (self.size, self.size, 3)), labels[row[0]]

        dataset = tf.data.Dataset.from_tensor_slices(rows)
        dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
