"""Picture files as `tf.data.Dataset`s of batches, decoded when they are due."""

import contextlib

import numpy as np

from keras_cbam.training.crops import evaluation_crop, training_crop
from keras_cbam.training.data_set import DataError, quoted
from keras_cbam.training.pictures import decoding, open_picture, why_unreadable


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

    def training(self, files, batch_size, seed, flip=True):
        """Batches in a new order and of new crops in every epoch, all from the seed alone.

        Args:
            files: `PictureFiles`.
            batch_size: int.
            seed: int.
            flip: bool, see `training_crop`. Defaults to `True`.

        Returns:
            `tf.data.Dataset` of `(images, labels)`, uint8 `(batch, size, size, 3)` and int32
            `(batch,)`. The last batch of an epoch may be smaller.
        """
        import tensorflow as tf

        def crop(image, number):
            return training_crop(image, self.size, flip, np.random.default_rng(number))

        indices = tf.data.Dataset.range(len(files.paths))
        indices = indices.shuffle(len(files.paths), seed=seed, reshuffle_each_iteration=True)
        # Each epoch draws new numbers, all from the seed.
        numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        return self._batches(files, tf.data.Dataset.zip(indices, numbers), batch_size, crop)

    def evaluation(self, files, batch_size):
        """Batches of evaluation crops in the given order; as `training` otherwise."""
        import tensorflow as tf

        def crop(image, _):
            return evaluation_crop(image, self.size)

        indices = tf.data.Dataset.range(len(files.paths))
        return self._batches(files, tf.data.Dataset.zip(indices, indices), batch_size, crop)

    def _batches(self, files, numbered, batch_size, crop):
        import tensorflow as tf

        def read(index, number):
            try:
                return crop(open_picture(files.paths[index]), number)
            except Exception as error:
                # TensorFlow keeps neither the kind of an error nor what it carries.
                path = quoted(files.paths[index])
                self.failure = f"The picture {path} cannot be read: {why_unreadable(error)}."
                raise

        labels = tf.constant(files.labels)

        def example(index, number):
            pixels = tf.numpy_function(read, [index, number], tf.uint8)
            return tf.ensure_shape(pixels, (self.size, self.size, 3)), labels[index]

        dataset = numbered.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
