"""Pictures as a model takes them, and as they are shown."""

import operator

import keras
import numpy as np
from keras import ops
from PIL import Image

from keras_cbam.errors import positive_integer
from keras_cbam.insertion.graph import data_format


def model_inputs(model, images):
    """Pictures, or other inputs, as float arrays that fit a model.

    Greyscale pictures become RGB if the model takes three channels, and pictures of another size
    are resized (bilinear, antialiased) if it takes one size only.

    Args:
        model: `keras.Model`.
        images: array `(batch, height, width, channels)` of any real dtype; for a model of several
            inputs their list, tuple or dict.

    Returns:
        The inputs, in the structure of `images`.

    Raises:
        ValueError: if the inputs do not fit.
    """
    tensors = getattr(model, "inputs", None)
    if not tensors:
        is_batch = isinstance(images, (list, tuple)) and all(np.ndim(one) == 3 for one in images)
        return _as_array(images) if is_batch else keras.tree.map_structure(_as_array, images)
    is_first = data_format(model) == "channels_first"
    if len(tensors) == 1 and not isinstance(images, dict):
        return _fitted(_as_array(images), tensors[0], is_first)
    arrays = list(images.values()) if isinstance(images, dict) else images
    if not isinstance(arrays, (list, tuple)) or len(arrays) != len(tensors):
        raise ValueError(
            f"The model {model.name!r} has {len(tensors)} inputs: pass `images` as a list or dict "
            f"with an array for each of them. Received: {_description(images)}"
        )
    if len({len(array) for array in arrays}) != 1:
        raise ValueError(
            "The inputs must have the same number of examples. "
            f"Received: {', '.join(map(_description, arrays))}"
        )
    if not isinstance(images, dict):
        return [
            _fitted(_as_array(array), tensor, is_first) for array, tensor in zip(arrays, tensors)
        ]
    own = model.input if isinstance(model.input, dict) else {one.name: one for one in tensors}
    if set(images) != set(own):
        raise ValueError(
            f"The inputs of the model {model.name!r} are {sorted(own)}. "
            f"Received: images with the keys {sorted(images)}"
        )
    return {name: _fitted(_as_array(images[name]), own[name], is_first) for name in images}


def _description(images):
    shape = getattr(images, "shape", None)
    return f"an array of shape {tuple(shape)}" if shape is not None else repr(images)[:80]


def _as_array(images):
    if isinstance(images, (list, tuple)) and len({np.shape(image) for image in images}) > 1:
        raise ValueError(
            "The pictures of one batch must have one size. "
            f"Received: pictures of the shapes {sorted({np.shape(image) for image in images})}"
        )
    array = (
        images if isinstance(images, (np.ndarray, list, tuple)) else ops.convert_to_numpy(images)
    )
    array = np.asarray(array)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(f"Pictures must be numbers. Received: images of dtype {array.dtype}")
    if not array.size:
        raise ValueError(f"There is no picture. Received: images of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("Pictures must be finite. Received: images with NaN or infinite values")
    return array.astype("float32")


def _fitted(array, tensor, is_first):
    shape = tensor.shape
    if array.ndim != len(shape):
        raise ValueError(
            f"The inputs must be a batch of shape {_shown(shape)}. "
            f"Received: images of shape {array.shape}"
        )
    if len(shape) != 4:
        return array
    axis = 1 if is_first else 3
    if array.shape[axis] == 1 and shape[axis] == 3:
        array = np.repeat(array, 3, axis=axis)
    if shape[axis] not in (None, array.shape[axis]):
        raise ValueError(
            f"Pictures must have {shape[axis]} channels for the inputs {_shown(shape)}. "
            f"Received: images of shape {array.shape}"
        )
    space = (2, 3) if is_first else (1, 2)
    size = tuple(shape[i] or array.shape[i] for i in space)
    if size == tuple(array.shape[i] for i in space):
        return array
    resized = ops.image.resize(
        array, size, antialias=True, data_format="channels_first" if is_first else "channels_last"
    )
    return ops.convert_to_numpy(resized)


def _shown(shape):
    return "(" + ", ".join(["batch", *map(str, shape[1:])]) + ")"


def batches(inputs, batch_size):
    """The inputs in parts of at most `batch_size` examples."""
    positive_integer("batch_size", batch_size)
    count = len(keras.tree.flatten(inputs)[0])
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        yield keras.tree.map_structure(operator.itemgetter(part), inputs)


def picture_size(model, images):
    """Height and width of the first of the inputs that is a batch of pictures, as they came."""
    is_first = data_format(model) == "channels_first"
    one = not isinstance(images, dict) and len(getattr(model, "inputs", None) or [0]) == 1
    arrays = [np.shape(images)] if one else [np.shape(a) for a in keras.tree.flatten(images)]
    for shape in arrays:
        if len(shape) == 4:
            return shape[2:] if is_first else shape[1:3]
    raise ValueError(
        f"There is no batch of pictures, (batch, height, width, channels), among the inputs. "
        f"Received: shapes {arrays}"
    )


def resized_map(values, size):
    """A float map `(rows, columns)` at another size `(height, width)`, by bilinear filtering."""
    image = Image.fromarray(values.astype("float32"))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def displayed(image):
    """A picture as RGB in [0, 1]: integers and floats of [0, 255] or [0, 1], or else stretched.

    Args:
        image: array `(height, width)` or `(height, width, channels)`, of 1, 3 or 4 channels.
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            "A picture must have the shape (height, width), or (height, width, channels) with 1, 3 "
            f"or 4 channels. Received: an array of shape {np.shape(image)}"
        )
    is_integer = np.issubdtype(array.dtype, np.integer)
    pixels = _as_array(array[..., :3])
    low, high = pixels.min(), pixels.max()
    if low < 0 or high > 255:
        # Already preprocessed.
        pixels = (pixels - low) / max(high - low, 1e-12)
    elif is_integer or high > 1:
        pixels = pixels / 255
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
