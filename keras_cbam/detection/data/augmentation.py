"""Random changes of pictures and their boxes, of batches by the layers of keras_cv."""

import keras_cv
import numpy as np

# Random numbers that the augmentation of one picture in a batch takes.
NUMBERS = 4
# By how much a picture is magnified, and its brightness changed.
SCALES = (0.75, 4 / 3)
BRIGHTNESS = (-32.0, 32.0)
# What must be left of a box: a part of its area, and pixels of each side.
LEAST_PART, LEAST_SIDE = 0.25, 2.0


def flipped(picture, boxes):
    """A picture and its boxes, left to right.

    `keras_cv.layers.RandomFlip` takes 20 times as long: it computes both, and masks of all pixels.

    Args:
        picture: uint8 array `(height, width, 3)`.
        boxes: float32 array `(boxes, 4)`, edges in pixels, left, top, right and bottom.
    """
    left, top, right, bottom = boxes.T
    width = np.float32(picture.shape[1])
    return picture[:, ::-1], np.stack([width - right, top, width - left, bottom], axis=1)


def augmented(images, boxes, classes, numbers):
    """Pictures and boxes after random magnifications, crops and changes of brightness.

    Pictures are resized by a factor in [0.75, 4/3], then cut, or padded on the right and below, to
    their size (`keras_cv.layers.JitteredResize`). Up to 32 of 255 are added to or taken from their
    pixels (`RandomBrightness`). A box of which less than a quarter, or less than 2 pixels of a
    side, is left becomes padding.

    The layers' own random numbers depend on the order in which threads get to them; so the
    transformations are made of given numbers here.

    Args:
        images: float32 tensor `(batch, size, size, 3)`, pixels in [0, 255].
        boxes: float32 tensor `(batch, boxes, 4)`, edges in pixels, left, top, right and bottom;
            padding is -1.
        classes: float32 tensor `(batch, boxes)`; padding is -1.
        numbers: float32 tensor `(batch, 4)`, uniform in [0, 1).

    Returns:
        The changed images, boxes and classes; boxes that are left come before padding.
    """
    import tensorflow as tf

    size = images.shape[1]
    scale_number, top, left, light = tf.unstack(numbers[..., None], axis=1)
    resize = keras_cv.layers.JitteredResize((size, size), SCALES, bounding_box_format="xyxy")
    brightness = keras_cv.layers.RandomBrightness((0.0, 0.0), value_range=(0, 255))
    scaled = tf.round(size * _between(SCALES, scale_number))
    transformations = {
        "image_scales": tf.tile(scaled / size, (1, 2)),
        "scaled_sizes": tf.tile(scaled, (1, 2)),
        "offsets": tf.cast(
            tf.maximum(scaled - size, 0.0) * tf.concat([top, left], axis=1), tf.int32
        ),
    }
    before = _areas(boxes) * (scaled / size) ** 2
    targets = resize.augment_bounding_boxes(
        {"boxes": boxes, "classes": classes}, transformations=transformations, raw_images=images
    )
    images = resize.augment_images(images, transformations)
    images = brightness.augment_images(images, _between(BRIGHTNESS, light)[..., None, None])
    boxes, classes = targets["boxes"], targets["classes"]
    shorter = tf.reduce_min(boxes[..., 2:] - boxes[..., :2], axis=-1)
    is_left = (classes >= 0) & (_areas(boxes) >= LEAST_PART * before) & (shorter >= LEAST_SIDE)
    order = tf.argsort(tf.cast(~is_left, tf.int32), axis=1, stable=True)
    boxes = tf.where(is_left[..., None], boxes, -1.0)
    classes = tf.where(is_left, classes, -1.0)
    return images, *(tf.gather(each, order, axis=1, batch_dims=1) for each in (boxes, classes))


def _between(limits, numbers):
    return limits[0] + (limits[1] - limits[0]) * numbers


def _areas(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
