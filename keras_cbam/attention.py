"""Resolves an attention spec to a layer for one site of a network."""

import re
import typing

import keras

from keras_cbam.errors import near_names
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.spatial_attention import SpatialAttention

ATTENTION = {
    "cbam": (CBAM, {}),
    "se": (ChannelAttention, {"pooling": ("avg",)}),
    "channel": (ChannelAttention, {}),
    "spatial": (SpatialAttention, {}),
    "bam": (BAM, {}),
}


def snake_case(layer_class):
    """The name that Keras gives to a layer of the class, without a number."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", layer_class.__name__).lower()


class Template(typing.NamedTuple):
    """A layer whose config is copied, and its short name."""

    layer: keras.layers.Layer
    short_name: str


def is_choice(attention):
    """Whether it is a callable that chooses the attention of each site."""
    return callable(attention) and not isinstance(attention, (keras.layers.Layer, type))


def attention_template(attention):
    """Resolves an attention spec, except a callable, once for many sites."""
    if isinstance(attention, Template):
        return attention
    if isinstance(attention, keras.layers.Layer):
        return Template(attention, snake_case(type(attention)))
    if isinstance(attention, str):
        attention = {"class_name": attention}
    if not isinstance(attention, dict) or not isinstance(attention.get("class_name"), str):
        raise ValueError(
            "`attention` must be a name, a dict with 'class_name' and 'config', a layer, or a "
            f"callable that returns one of these. Received: attention={attention!r}"
        )
    name = attention["class_name"]
    if name in ATTENTION:
        layer_class, arguments = ATTENTION[name]
        return Template(layer_class(**{**arguments, **(attention.get("config") or {})}), name)
    if "module" in attention or "registered_name" in attention:
        return attention_template(keras.saving.deserialize_keras_object(attention))
    raise ValueError(
        f"Unknown attention. {near_names(name, ATTENTION)} Received: attention={name!r}"
    )


def attention_layer(attention, site, start_as_identity=True, dtype=None, data_format=None):
    """A new attention layer named `<site>_<attention>`, or `None`; see `insert_attention`."""
    if is_choice(attention):
        attention = attention(site)
        if attention is None:
            return None
    template, short_name = attention_template(attention)
    config, layer_class = template.get_config(), type(template)
    if "start_as_identity" in config:
        config["start_as_identity"] = start_as_identity
    elif start_as_identity:
        raise ValueError(
            f"{layer_class.__name__} has no argument `start_as_identity`: insert it with "
            f"`start_as_identity=False`. Received: attention={attention!r}"
        )
    config["name"] = f"{site}_{short_name}"
    if dtype is not None:
        config["dtype"] = dtype
    if data_format is not None and "data_format" in config:
        config["data_format"] = data_format
    return layer_class.from_config(config)
