"""Arrays of pictures as a `tf.data.Dataset` of batches, augmented and in a seeded order."""


def batches(images, labels, batch_size, augmentation_seed=None, shift=0.08):
    """Batches of pictures and labels; with a seed shuffled and augmented, anew in every epoch.

    Augmentation flips each picture left to right with probability one half and shifts it by up
    to `shift` of its side on both axes, its edge pixels repeated.

    Args:
        images: uint8 array of shape `(pictures, height, width, channels)`.
        labels: int array of shape `(pictures,)`.
        batch_size: int.
        augmentation_seed: int, of the order and the augmentation, or `None` for neither.
            Defaults to `None`.
        shift: float, largest shift as a part of the side. Defaults to `0.08`.

    Returns:
        `tf.data.Dataset` of `(images, labels)`, uint8 `(batch, height, width, channels)` and
        int32 `(batch,)`. The last batch of an epoch may be smaller.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    if augmentation_seed is None:
        return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    height, width = images.shape[1:3]
    margins = (round(shift * height), round(shift * width))

    def augment(seed, picture, label):
        offsets = [
            tf.random.stateless_uniform((), seed + i, 0, 2 * margin + 1, dtype=tf.int32)
            for i, margin in enumerate(margins)
        ]
        padded = tf.pad(picture, [[margins[0]] * 2, [margins[1]] * 2, [0, 0]], "SYMMETRIC")
        picture = tf.slice(padded, [*offsets, 0], picture.shape)
        return tf.image.stateless_random_flip_left_right(picture, seed + 2), label

    # Each epoch draws new seeds and a new order, both from `augmentation_seed` alone.
    seeds = tf.data.Dataset.random(seed=augmentation_seed, rerandomize_each_iteration=True)
    dataset = dataset.shuffle(len(images), seed=augmentation_seed, reshuffle_each_iteration=True)
    return (
        tf.data.Dataset.zip(seeds.batch(2), dataset)
        .map(lambda seed, example: augment(seed, *example), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )
