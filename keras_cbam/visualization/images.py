"""Turns images into the arrays that a model takes, and into the RGB images that figures show."""

import operator
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from keras_cbam.errors import positive_integer, require
from keras_cbam.insertion.graph import data_format


def to_float32(tensor: Any) -> np.ndarray:
    """A tensor of any backend as a float32 array."""
    return np.asarray(ops.convert_to_numpy(ops.cast(tensor, "float32")))


def model_inputs(model: keras.Model, images: Any) -> tuple[Any, tuple[int, ...]]:
    """Float32 arrays that fit a model, and the spatial sizes of the images as they came.

    The images are those of `attention_maps`; the sizes are those of the input of the most axes.
    """
    tensors = getattr(model, "inputs", None) or []
    is_first = data_format(model) == "channels_first"
    if hasattr(images, "element_spec"):
        images = _joined(images)
    if _is_one_input(images, len(tensors)):
        arrays = _as_array(images)
        inputs = _fitted(arrays, tensors[0], is_first) if tensors else arrays
    elif not tensors:
        arrays = inputs = keras.tree.map_structure(_as_array, images)
    else:
        is_named = isinstance(images, dict)
        own = {tensor.name: tensor for tensor in tensors}
        own = model.input if is_named and isinstance(model.input, dict) else own
        arrays = _by_name(images, own, model.name)
        inputs = {name: _fitted(array, own[name], is_first) for name, array in arrays.items()}
        inputs = inputs if is_named else list(inputs.values())
    shape = max((array.shape for array in keras.tree.flatten(arrays)), key=len)
    return inputs, shape[1:] if len(shape) < 3 else shape[2:] if is_first else shape[1:-1]


def _joined(dataset):
    """The arrays of a `tf.data.Dataset` of batches, or of pairs of a batch and its labels."""
    require(dataset.cardinality() != -1, "The dataset must end, use `take(batches)`.", dataset)
    parts = [one[0] if isinstance(one, tuple) else one for one in dataset.as_numpy_iterator()]
    require(parts, "There is no image.", dataset)
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _is_one_input(images, count):
    if count:
        return count == 1 and not isinstance(images, dict)
    is_nested = isinstance(images, (dict, list, tuple))
    return not is_nested or all(np.ndim(image) == 3 for image in images)


def _by_name(images, own, model_name):
    """`{name of the input: array}` of the images for the inputs `own` of a model."""
    given = images
    if isinstance(images, (list, tuple)) and len(images) == len(own):
        given = dict(zip(own, images))
    received = f"the keys {sorted(given)}" if isinstance(given, dict) else repr(given)[:80]
    if isinstance(given, np.ndarray):
        received = f"an array of shape {given.shape}"
    is_right = isinstance(given, dict) and given.keys() == own.keys()
    require(
        is_right,
        f"The model {model_name!r} has {len(own)} inputs: pass `images` as a list or dict with an "
        f"array for each of {list(own)}.",
        received,
    )
    arrays = {name: _as_array(given[name]) for name in given}
    shapes = [array.shape for array in arrays.values()]
    is_equal = len({shape[:1] for shape in shapes}) == 1
    require(is_equal, "The inputs must have the same number of examples.", f"the shapes {shapes}")
    return arrays


def _as_array(images):
    if isinstance(images, (list, tuple)):
        shapes = {np.shape(image) for image in images}
        require(len(shapes) < 2, "The images of one batch must have one size.", sorted(shapes))
    elif not isinstance(images, np.ndarray):
        images = ops.convert_to_numpy(images)
    array = np.asarray(images)
    is_number = array.dtype.kind in "iu" or np.issubdtype(array.dtype, np.floating)
    require(is_number, "Images must be numbers.", f"images of dtype {array.dtype}")
    require(array.size, "There is no image.", f"images of shape {array.shape}")
    require(np.isfinite(array).all(), "Images must be finite.", "NaN or infinite values")
    return array.astype("float32")


def _fitted(array, tensor, is_first):
    """The array with the channels and the size of a model's input tensor."""
    shape = tensor.shape
    shown = "(" + ", ".join(["batch", *map(str, shape[1:])]) + ")"
    received = f"images of shape {array.shape}"
    require(array.ndim == len(shape), f"The inputs must be a batch of shape {shown}.", received)
    if len(shape) != 4:
        return array
    axis = 1 if is_first else 3
    if array.shape[axis] == 1 and shape[axis] == 3:
        array = np.repeat(array, 3, axis=axis)
    is_right = shape[axis] in (None, array.shape[axis])
    require(is_right, f"Images must have {shape[axis]} channels for the inputs {shown}.", received)
    space = slice(2, 4) if is_first else slice(1, 3)
    size = tuple(own or given for own, given in zip(shape[space], array.shape[space]))
    if size == array.shape[space]:
        return array
    image_format = "channels_first" if is_first else "channels_last"
    resized = ops.image.resize(array, size, antialias=True, data_format=image_format)
    return ops.convert_to_numpy(resized)


def batches(inputs: Any, batch_size: int) -> Iterator[Any]:
    """The inputs in parts of at most `batch_size` examples."""
    positive_integer("batch_size", batch_size)
    count = len(keras.tree.flatten(inputs)[0])
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        yield keras.tree.map_structure(operator.itemgetter(part), inputs)


def resized_map(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A float map of any number of axes at another size, by linear filtering."""
    for axis, length in enumerate(size):
        lines = np.moveaxis(values, axis, -1)
        image = Image.fromarray(lines.reshape(-1, lines.shape[-1]).astype("float32"))
        resized = np.asarray(image.resize((length, image.height), Image.Resampling.BILINEAR))
        values = np.moveaxis(resized.reshape(*lines.shape[:-1], length), -1, axis)
    return values


def as_images(model: keras.Model, images: Any) -> list[np.ndarray]:
    """One image, a batch, or a list of them, as a list of arrays `(height, width, channels)`."""
    if hasattr(images, "element_spec"):
        images = _joined(images)
    count = len(getattr(model, "inputs", None) or [0])
    require(
        count == 1,
        "Images can be drawn of models with one input; use `attention_maps` or `grad_cam` for a "
        "model with several.",
        f"the model {model.name!r} with {count} inputs",
    )
    if not isinstance(images, (list, tuple)):
        images = [images] if np.ndim(images) < 4 else list(np.asarray(images))
    shapes = [np.shape(image) for image in images]
    require(
        shapes and all(len(shape) in (2, 3) for shape in shapes),
        "An image must have the shape (height, width) or (height, width, channels), a batch "
        "(batch, height, width, channels).",
        shapes or "no image",
    )
    return [np.atleast_3d(image) for image in images]


def displayed(image: np.ndarray) -> np.ndarray:
    """An image of integers in [0, 255], or of any floats, as RGB in [0, 1]."""
    is_image = image.shape[-1] in (1, 3, 4)
    require(is_image, "An image must have 1, 3 or 4 channels.", f"shape {image.shape}")
    pixels = _as_array(image[..., :3])
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 255:
        # Already preprocessed.
        pixels = (pixels - low) / max(high - low, 1e-12)
    elif image.dtype.kind in "iu" or high > 1:
        pixels = pixels / 255
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
