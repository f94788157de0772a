"""Images with boxes as a `tf.data.Dataset` of batches."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cbam.data.batches import batched, read_whole
from keras_cbam.data.order import ONE_DEVICE, Devices, epoch_order, share
from keras_cbam.detection.arguments import AUGMENTATIONS
from keras_cbam.detection.data.augmentation import augmented
from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.errors import one_of, positive_integer, validate_seed

# Boxes that a batch has room for at least, if an image of the set has so many.
LEAST_PADDING = 8


def detection_batches(
    detection_set: DetectionSet,
    batch_size: int,
    image_size: int,
    training: bool = False,
    seed: int = 0,
    epoch: int | None = None,
    first_step: int = 0,
    augment: str = "flip_crop_color",
    devices: Devices = ONE_DEVICE,
    short_side: int | Sequence[int] | None = None,
) -> Any:
    """Batches of images and their boxes, as the detectors take them.

    Images are resized by antialiased bilinear filtering to `fitted_size`, which keeps their aspect,
    and padded with black on the right and below; boxes of `DetectionSet.ignored` are left out. An
    image that cannot be used, see `SizedImages`, is replaced by the next one of its batch that can.

    Args:
        detection_set: `DetectionSet`.
        batch_size: int, on all devices. The last batch may be smaller.
        image_size: int, side of the square images in pixels.
        training: bool, whether the images are shuffled and augmented. Defaults to `False`.
        seed: int of at least 0, of the order and the augmentation. Defaults to `0`.
        epoch: int from 0: order and augmentation are functions of `seed` and `epoch` alone.
            Defaults to `None`: each iteration is another epoch, from 0.
        first_step: int, steps of the epoch that are left out. Defaults to `0`.
        augment: string, in training. All except `"none"` flip half of the images left to right.
            `"flip"`: no more than that.
            `"flip_crop_color"`: all are magnified by 0.75 to 1.33, cropped or padded at random, and
            up to 32 of 255 brighter or darker. A box stays if a quarter of its area and 2 pixels of
            each side do.
            `"ssd"`: half are put on a canvas of up to four times their sides; then a part is cut
            out, with sides of 1 to 2 at most, that has the centre of a box, and an IoU with one of
            at least 0.1, 0.3, 0.5, 0.7, 0.9, or any (or nothing is cut). A box stays if its centre
            does. Brightness, contrast and saturation are each changed for half.
            Defaults to `"flip_crop_color"`.
        devices: `Devices` that share a batch. Defaults to one.
        short_side: see `fitted_size`. Of several, one is drawn for each batch of a training, and
            the largest taken otherwise. Defaults to `None`: the longer side is `image_size`.

    Returns:
        `tf.data.Dataset` of `(images, {"boxes": boxes, "classes": classes})`, all float32: pixels
        in [0, 255] `(batch, image_size, image_size, 3)`; left, top, right and bottom edges in
        pixels `(batch, boxes, 4)`; indices `(batch, boxes)`. Padding is -1, to the most boxes of an
        image of the batch, rounded up to 8, 16, 32, ... and at most to that of the set: XLA
        compiles a training step for each of these few numbers. Batches of image files are read
        within `keras_cbam.data.reading`.

    Raises:
        ValueError: if an argument is outside its range.

    Example:

    >>> batches = detection_batches(clothing_scenes(64), 16, 96, training=True)
    >>> model.fit(batches, epochs=10, shuffle=False)
    """
    import tensorflow as tf

    positive_integer("batch_size", batch_size)
    positive_integer("image_size", image_size)
    validate_seed("seed", seed)
    one_of(*AUGMENTATIONS)("augment", augment)
    count = len(detection_set)
    if count == 0:
        raise ValueError("`detection_set` must have an image. Received: an empty set")
    targets = [
        (boxes[~ignored], classes[~ignored])
        for boxes, classes, ignored in zip(
            detection_set.boxes, detection_set.classes, detection_set.ignored
        )
    ]
    most = max(1, *(len(classes) for _, classes in targets))
    # One number for all where there is only one.
    padded = most if most <= LEAST_PADDING else None
    # 0: there is none.
    sides = [0] if short_side is None else np.atleast_1d(short_side).tolist()
    short_sides = np.array([side and positive_integer("short_side", side) for side in sides])
    augment = augment if training else "none"

    def rows_of(epoch):
        sides = np.full(count, short_sides.max())
        order = [np.arange(count)] * 2
        if training:
            order = epoch_order(count, seed, epoch)
            drawn = np.random.default_rng([seed, epoch, 1]).choice(short_sides, count)
            sides = drawn[np.arange(count) // batch_size]
        return share(np.stack([*order, sides], axis=1), batch_size, devices, first_step)

    rows = rows_of(epoch or 0)
    if epoch is None:
        epochs = itertools.count()
        rows = (lambda: rows_of(next(epochs))), len(rows)
    signature = (
        tf.TensorSpec((None, image_size, image_size, 3), tf.float32),
        tf.TensorSpec((None, padded, 4), tf.float32),
        tf.TensorSpec((None, padded), tf.float32),
    )
    read = _reader(detection_set.source, targets, image_size, augment, most)
    dataset = batched(rows, batch_size // devices.processes, read, signature)
    return dataset.map(
        lambda images, boxes, classes: (images, {"boxes": boxes, "classes": classes})
    )


def _reader(source, targets, image_size, augment, most):
    """A function from rows, each an index, an augmentation's seed and a side, to a batch."""

    def read(rows):
        def example(image, position):
            index, number, side = rows[position].tolist()
            boxes, classes = targets[index]
            generator = np.random.default_rng(number)
            pixels, boxes, kept = augmented(augment, image, boxes, image_size, side, generator)
            return pixels, boxes[kept], classes[kept]

        return source.read_each(rows[:, 0], example)

    return lambda rows: _padded(read_whole(read, rows, len(targets))[0], most)


def _padded(examples, most):
    """Examples, each pixels, boxes and classes, as a batch; the set has `most` boxes an image."""
    doublings = math.ceil(math.log2(max(LEAST_PADDING, *(len(own) for *_, own in examples))))
    count = min(most, 2**doublings)
    boxes = np.full((len(examples), count, 4), -1, "float32")
    classes = np.full((len(examples), count), -1, "float32")
    for i, (_, own_boxes, own_classes) in enumerate(examples):
        boxes[i, : len(own_boxes)] = own_boxes
        classes[i, : len(own_classes)] = own_classes
    return np.stack([pixels for pixels, *_ in examples]).astype("float32"), boxes, classes
