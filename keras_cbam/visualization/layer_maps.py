"""Collects the attention maps of a model's layers, as arrays."""

import collections
import functools
import math
import typing

import keras
import numpy as np

from keras_cbam._compat import inner_layers
from keras_cbam._types import Where
from keras_cbam.errors import listed, require
from keras_cbam.insertion.graph import choose, unused
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.layers.spatial_attention import SpatialAttention
from keras_cbam.visualization.calls import ensure_built, find_operations, hooked
from keras_cbam.visualization.images import batches, model_inputs, to_float32


class AttentionScores(typing.NamedTuple):
    """The maps of one attention layer, as `return_attention_scores=True` gives them.

    Attributes:
        channel: float32 array `(batch, 1, 1, channels)`, or `None` without a channel gate.
        spatial: float32 array `(batch, height, width, 1)`, or `None` without a spatial gate.
    """

    # Not `np.ndarray | None`, so that type checkers take what is drawn of a known layer.
    channel: typing.Any
    spatial: typing.Any


def attention_maps(
    model: keras.Model, images: typing.Any, layers: Where | None = None, batch_size: int = 32
) -> dict[str, AttentionScores]:
    """The maps of every attention layer of a model, from one forward pass in inference mode.

    Layers in nested, subclassed and reloaded models are found too.

    Args:
        model: `keras.Model` with attention layers of this package.
        images: array `(batch, height, width, channels)` of pixels as the model takes them; for a
            model of several inputs their list or dict; or a `tf.data.Dataset` of batches, with or
            without labels. Greyscale becomes RGB, and other sizes are resized, where the model
            takes nothing else.
        layers: regular expression that matches a whole layer name, collection of names, or
            predicate on the layer. Defaults to `None`: all attention layers.
        batch_size: int, images at once. Defaults to `32`.

    Returns:
        Dict `{layer name: AttentionScores}` in the order of the calls. Layers that share a name
        have their path, `<model>/<layer>`; further calls of a layer are `<name>_1` and so on.

    Raises:
        ValueError: if the model has no attention layer, `layers` names none or none that is
            called, or the images do not fit the model.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, weights=None)
    >>> maps = attention_maps(model, np.zeros((2, 224, 224, 3)))
    >>> maps["block_16_project_BN_cbam"].spatial.shape
    (2, 7, 7, 1)
    """
    found = described_maps(model, images, layers, batch_size)
    return {name: one.scores for name, one in found.items()}


class LayerAttention(typing.NamedTuple):
    """The maps of one layer, its place in words, and whether it started as an identity."""

    scores: AttentionScores
    place: str
    is_identity: bool


def described_maps(
    model: keras.Model, images: typing.Any, layers: Where | None = None, batch_size: int = 32
) -> dict[str, LayerAttention]:
    """As `attention_maps`, with what figures say of the layers."""
    inputs, _ = model_inputs(model, images)
    # First: a subclassed model may make its layers when it is built.
    ensure_built(model, inputs)
    every, chosen = _chosen(model, layers)
    parts = collections.defaultdict(list)
    for batch in batches(inputs, batch_size):
        seen, calls = [], collections.Counter()
        watched = {one: functools.partial(_watch, seen, name, one) for name, one in every.items()}
        with hooked(watched.items()):
            model(batch, training=False)
        for name, scores in seen:
            parts[name, calls[name]].append(scores)
            calls[name] += 1
    first = max(keras.tree.flatten(inputs), key=np.ndim)
    maps, counts = {}, collections.Counter()
    for (name, number), scores in parts.items():
        gates = [None if gate[0] is None else np.concatenate(gate) for gate in zip(*scores)]
        scores = AttentionScores(*gates)
        place, size = _stage(scores, first.shape)
        counts[place, size] += 1
        if name in chosen:
            # A further call must not take the name of another layer.
            key = unused(name, {*maps, *every}) if number else name
            place = ", ".join(filter(None, (place, f"block {counts[place, size]}", size)))
            maps[key] = LayerAttention(scores, place, _starts_as_identity(every[name]))
    require(maps, f"The model calls none of its attention layers: {listed(chosen)}.", model)
    return maps


def spatial_map(scores: AttentionScores) -> np.ndarray | None:
    """`(height, width)` of the first image's spatial map in any data format; else `None`."""
    if scores.spatial is None or scores.spatial.ndim != 4:
        return None
    _, *shape = scores.spatial.shape
    is_first = shape[0] == 1 and shape[2] != 1
    return scores.spatial[0].reshape(shape[1:] if is_first else shape[:2])


def _stage(scores, input_shape):
    """The stage in words, and the size: stage 3 has an eighth of the input's height and width."""
    values = spatial_map(scores)
    if values is None:
        return "", "" if scores.channel is None else f"{scores.channel[0].size} channels"
    size = f"{values.shape[1]} x {values.shape[0]}"
    if len(input_shape) != 4:
        return "", size
    halvings = round(math.log2(max(input_shape[1:]) / max(values.shape)))
    return f"stage {halvings}" if halvings > 0 else "full size", size


def _starts_as_identity(layer):
    # With `residual=True` the map is added to 1, and changes nothing at 0.
    parts = inner_layers(layer)
    is_blended = any(getattr(part, "identity_scale", None) is not None for part in parts)
    return is_blended and not getattr(layer, "residual", False)


def has_attention(model: keras.Model) -> bool:
    """Whether a model has attention layers of this package, whose maps can be shown."""
    return any(_has_maps(layer) for layer in inner_layers(model))


def _has_maps(layer):
    return isinstance(layer, AttentionLayer) and layer.has_maps


def is_untrained(model: keras.Model) -> bool:
    """Whether all attention layers of a model are still the identities that they started as."""
    found = [one for one in find_operations(model).values() if _has_maps(one)]
    scales = [
        [getattr(part, "identity_scale", None) for part in inner_layers(one)] for one in found
    ]
    values = [[to_float32(scale) for scale in own if scale is not None] for own in scales]
    return bool(values) and all(own and not np.any(own) for own in values)


def _chosen(model, layers):
    """`{name: layer}` of all attention layers, the name is the path if it must be; those chosen."""
    operations = find_operations(model).items()
    found = {path: layer for path, layer in operations if _has_maps(layer)}
    message = "The model has no attention layer of keras_cbam: put `CBAM()` in it, or insert it by "
    require(found, f"{message}`insert_attention(model)`.", model)
    counts = collections.Counter(layer.name for layer in found.values())
    names = {path: one.name if counts[one.name] == 1 else path for path, one in found.items()}
    chosen = found if layers is None else choose(found, layers, "layers")
    return {names[path]: layer for path, layer in found.items()}, {names[path] for path in chosen}


def _watch(seen, name, layer, call, inputs, training=None, return_attention_scores=False, **masks):
    """Calls the layer, and adds its name and its channel and spatial scores to `seen`."""
    outputs, scores = call(inputs, training=training, return_attention_scores=True, **masks)
    pair = scores
    if not isinstance(scores, tuple):
        pair = (None, scores) if isinstance(layer, SpatialAttention) else (scores, None)
    seen.append((name, [None if gate is None else to_float32(gate) for gate in pair]))
    return (outputs, scores) if return_attention_scores else outputs
