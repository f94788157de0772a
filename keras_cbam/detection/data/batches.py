"""Pictures with boxes as a `tf.data.Dataset` of batches, and how they get to one size."""

import contextlib

import numpy as np
from PIL import Image

from keras_cbam.data.image_files import decoding
from keras_cbam.data.order import epoch_order
from keras_cbam.detection.data.augmentation import NUMBERS, augmented, flipped
from keras_cbam.detection.data.detection_set import FilePictures
from keras_cbam.errors import DataError, positive_integer
from keras_cbam.training.arguments import validate_seed


def detection_batches(
    detection_set,
    batch_size,
    image_size,
    training=False,
    seed=0,
    epoch=None,
    augment=True,
    max_boxes=None,
    drop_remainder=False,
):
    """Batches of pictures and their boxes, as the detectors take them.

    Pictures are resized by antialiased bilinear filtering so that the longer side fits, and padded
    with black on the right and below; boxes of `DetectionSet.ignored` are left out. Augmentation:
    half of the pictures are flipped left to right, all are changed as by `augmented`.

    Args:
        detection_set: `DetectionSet`.
        batch_size: int. The last batch may be smaller.
        image_size: int, side of the square pictures in pixels.
        training: bool, whether the pictures are shuffled. Defaults to `False`.
        seed: int of at least 0, of the order and the augmentation. Defaults to `0`.
        epoch: int from 0: order and augmentation are functions of `seed` and `epoch` alone,
            whenever the data set is iterated over. Defaults to `None`: each iteration is another
            epoch, so that `model.fit(batches, epochs=10, shuffle=False)` sees ten.
        augment: bool, whether pictures are augmented in training. Defaults to `True`.
        max_boxes: int, boxes of a picture to which all are padded. Defaults to `None`: the largest
            number in the set, at least 1.
        drop_remainder: bool, whether the smaller last batch is left out, for compilation to fixed
            shapes. Defaults to `False`.

    Returns:
        `tf.data.Dataset` of `(images, {"boxes": boxes, "classes": classes})`, all float32: pixels
        in [0, 255] `(batch, image_size, image_size, 3)`; left, top, right and bottom edges in
        pixels `(batch, max_boxes, 4)`; indices `(batch, max_boxes)`. Padding is -1.

    Raises:
        ValueError: if an argument is outside its range.

    Example:

    >>> scenes = clothing_scenes(64)
    >>> batches = detection_batches(scenes, 16, 96, training=True)
    >>> len(batches)
    4
    """
    import tensorflow as tf

    for name, value in (("batch_size", batch_size), ("image_size", image_size)):
        positive_integer(name, value)
    validate_seed(seed)
    if len(detection_set) == 0:
        raise ValueError("`detection_set` must have a picture, received none.")
    targets = [
        (boxes[~ignored], classes[~ignored])
        for boxes, classes, ignored in zip(
            detection_set.boxes, detection_set.classes, detection_set.ignored
        )
    ]
    most = max(1, *(len(classes) for _, classes in targets))
    max_boxes = most if max_boxes is None else max_boxes
    if max_boxes < most:
        raise ValueError(
            f"`max_boxes` must be at least {most}, the boxes of one picture. "
            f"Received: max_boxes={max_boxes}"
        )
    pictures = len(detection_set)
    steps = pictures // batch_size if drop_remainder else -(-pictures // batch_size)
    is_augmented = training and augment
    epochs = iter(range(2**62)) if epoch is None else None

    def rows():
        if not training:
            return np.stack([np.arange(pictures)] * 2, axis=1)
        this = epoch if epochs is None else next(epochs)
        return np.stack(epoch_order(pictures, seed, this), axis=1)

    def read(row):
        index, number = row
        generator = np.random.default_rng(number)
        picture, (own_boxes, own_classes) = detection_set.pictures[index], targets[index]
        if is_augmented and generator.random() < 0.5:
            picture, own_boxes = flipped(picture, own_boxes)
        image, scale = fitted(picture, image_size)
        boxes = np.full((max_boxes, 4), -1, "float32")
        classes = np.full((max_boxes,), -1, "float32")
        boxes[: len(own_classes)] = own_boxes * np.tile(scale, 2)
        classes[: len(own_classes)] = own_classes
        return image, boxes, classes, generator.random(NUMBERS, "float32")

    def example(row):
        tensors = tf.numpy_function(read, [row], [tf.uint8, *[tf.float32] * 3])
        shapes = ((image_size, image_size, 3), (max_boxes, 4), (max_boxes,), (NUMBERS,))
        return tuple(tf.ensure_shape(*each) for each in zip(tensors, shapes))

    def batch(images, boxes, classes, numbers):
        images = tf.cast(images, tf.float32)
        if is_augmented:
            images, boxes, classes = augmented(images, boxes, classes, numbers)
        return images, {"boxes": boxes, "classes": classes}

    # One element, so that the rows are drawn anew whenever an iteration starts.
    dataset = tf.data.Dataset.from_tensors(0).flat_map(
        lambda _: tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(tf.numpy_function(rows, [], tf.int64), (pictures, 2))
        )
    )
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
    dataset = dataset.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.prefetch(tf.data.AUTOTUNE)


def fitted_size(height, width, image_size):
    """Height and width of a picture whose longer side is resized to `image_size` pixels."""
    longer = max(height, width)
    return tuple(max(1, round(length * image_size / longer)) for length in (height, width))


def fitted_scale(height, width, image_size):
    """What takes pixels of a picture to those of the resized one: float32 `(2,)`, across and down.

    The two differ by the rounding to whole pixels.
    """
    new_height, new_width = fitted_size(height, width, image_size)
    return np.array([new_width / width, new_height / height], "float32")


def fitted(picture, image_size):
    """A picture resized so that its longer side fits, and padded on the right and below.

    Args:
        picture: uint8 array `(height, width, 3)`.
        image_size: int, in pixels.

    Returns:
        uint8 array `(image_size, image_size, 3)`, and the scale of `fitted_scale`.
    """
    height, width = picture.shape[:2]
    scale = fitted_scale(height, width, image_size)
    if height == width == image_size:
        return picture, scale
    size = fitted_size(height, width, image_size)
    image = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    canvas = np.zeros((image_size, image_size, 3), "uint8")
    canvas[: size[0], : size[1]] = np.asarray(image)
    return canvas, scale


@contextlib.contextmanager
def reading(*detection_sets):
    """Within the block, batches of these sets are read; a picture that cannot be is a `DataError`.

    Without it, TensorFlow raises errors of its own, and Pillow warns of oddities.

    Args:
        *detection_sets: `DetectionSet`s.

    Raises:
        DataError: at the end of the block, if a picture could not be read; the message names it.

    Example:

    >>> with reading(data.train):
    ...     batches = detection_batches(data.train, 16, 300, training=True)
    ...     model.fit(batches, epochs=10, shuffle=False)
    """
    import tensorflow as tf

    files = [each.pictures for each in detection_sets if isinstance(each.pictures, FilePictures)]
    for pictures in files:
        pictures.failure = None
    try:
        with decoding():
            yield
    except tf.errors.OpError as error:
        # TensorFlow keeps neither the kind of an error nor what it carries.
        failure = next((each.failure for each in files if each.failure), None)
        if failure is None:
            raise
        raise DataError(failure) from error
