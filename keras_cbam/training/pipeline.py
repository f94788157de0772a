"""Arrays of pictures as a `tf.data.Dataset` of batches."""


def batches(images, labels, batch_size, shuffle_seed=None, flip=False):
    """Batches of pictures and labels; with a seed in a new order and newly flipped every epoch.

    Args:
        images: uint8 array of shape `(pictures, height, width, channels)`.
        labels: int array of shape `(pictures,)`.
        batch_size: int.
        shuffle_seed: int, of the order and the flips, or `None` for the given order.
            Defaults to `None`.
        flip: bool, whether each picture is flipped left to right with probability one half; needs
            a seed. Defaults to `False`.

    Returns:
        `tf.data.Dataset` of `(images, labels)`, uint8 `(batch, height, width, channels)` and
        int32 `(batch,)`. The last batch of an epoch may be smaller.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    if shuffle_seed is not None:
        dataset = dataset.shuffle(len(images), seed=shuffle_seed, reshuffle_each_iteration=True)
    dataset = dataset.batch(batch_size)
    if flip:
        # Each epoch draws new seeds, all from `shuffle_seed` alone.
        seeds = tf.data.Dataset.random(seed=shuffle_seed, rerandomize_each_iteration=True)
        dataset = tf.data.Dataset.zip(seeds.batch(2), dataset).map(
            lambda seed, batch: (_flip(batch[0], seed), batch[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return dataset.prefetch(tf.data.AUTOTUNE)


def _flip(pictures, seed):
    import tensorflow as tf

    chosen = tf.random.stateless_uniform((tf.shape(pictures)[0], 1, 1, 1), seed) < 0.5
    return tf.where(chosen, tf.reverse(pictures, axis=[2]), pictures)
