"""Resolves what a user gives as `attention` to a new layer for one site of a network.

That is a name of `ATTENTION`, a config, a layer, a layer class, or a callable that gives one of
these for a site; `None` is no attention.

Whether the new layer starts as an identity: the builder's argument `start_as_identity` decides,
except that a key in a config, an argument in a `functools.partial` of a class, what a layer that
a callable returns has, and a given layer's `True` are kept. Its `False` may be a default.
"""

import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

from keras_cbam._types import Attention
from keras_cbam.errors import boolean, first_line, near_names
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.convolution_control import ConvolutionControl
from keras_cbam.layers.spatial_attention import SpatialAttention

ATTENTION = {
    "cbam": (CBAM, {}),
    "se": (ChannelAttention, {"pooling": ("avg",)}),
    "channel": (ChannelAttention, {}),
    "spatial": (SpatialAttention, {}),
    "bam": (BAM, {}),
    "control": (ConvolutionControl, {}),
}


class Template(NamedTuple):
    """A layer whose config is copied, its short name, and whether its own start is kept."""

    layer: keras.layers.Layer
    short_name: str
    keeps_start: bool


# What a config may have: the first two, and what `serialize_keras_object` adds.
KEYS = {"class_name", "config", "module", "registered_name", "build_config", "shared_object_id"}


def snake_case(layer_class: type) -> str:
    """The name that Keras gives to a layer of the class, without a number."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer_class.__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _class_of(attention):
    """The class of a `functools.partial`; or what is given."""
    return attention.func if isinstance(attention, functools.partial) else attention


def _of_class(attention):
    """A layer of a class or of a `functools.partial` of one, and the names of what it is given."""
    try:
        given = ()
        if isinstance(attention, functools.partial):
            signature = inspect.signature(attention.func)
            given = signature.bind_partial(*attention.args, **attention.keywords).arguments
        return attention(), given
    except TypeError as error:
        raise ValueError(
            f"The class of `attention` cannot be called so: {first_line(error)}. "
            f"Received: attention={attention!r}"
        ) from error


def is_choice(attention: Any) -> bool:
    """Whether it is a callable that chooses the attention of each site."""
    return callable(attention) and not isinstance(_class_of(attention), (keras.layers.Layer, type))


def _chosen(choice, site):
    """Calls a callable, with the site's name if it has a parameter without a default."""
    try:
        parameters = inspect.signature(choice).parameters.values()
    except ValueError:  # Some functions in C have no signature.
        return choice(site)
    takes_site = any(p.default is p.empty and p.kind <= p.VAR_POSITIONAL for p in parameters)
    return choice(site) if takes_site else choice()


def attention_template(attention: Any, is_chosen: bool = False) -> Template | None:
    """Resolves an attention spec, except a callable, once for many sites.

    `is_chosen` tells that a callable returned it. `None` and a `Template` are returned as they are.
    """
    if attention is None or isinstance(attention, Template):
        return attention
    layer, name, given = attention, None, ()
    if isinstance(_class_of(attention), type):
        layer, given = _of_class(attention)
    elif isinstance(attention, (str, Mapping)):
        config: Any = {"class_name": attention} if isinstance(attention, str) else attention
        name, given = config.get("class_name"), config.get("config") or {}
        if not isinstance(name, str) or not isinstance(given, Mapping) or config.keys() - KEYS:
            layer = None
        elif name in ATTENTION:
            layer_class, arguments = ATTENTION[name]
            layer = layer_class(**{**arguments, **given})
        elif "module" in config or "registered_name" in config:
            layer, name = keras.saving.deserialize_keras_object(dict(config)), None
        else:
            raise ValueError(
                f"Unknown attention. {near_names(name, ATTENTION)} Received: attention={name!r}"
            )
    elif is_chosen or getattr(attention, "start_as_identity", False):
        given = ("start_as_identity",)
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            "`attention` must be a name, a dict with 'class_name' and 'config' only, a layer, a "
            "layer class, or a callable that returns one of these. "
            f"Received: attention={attention!r}"
        )
    return Template(layer, name or snake_case(type(layer)), "start_as_identity" in given)


def layer_for_site(
    attention: Attention | Template,
    site: str,
    start_as_identity: bool = True,
    dtype: Any = None,
    data_format: str | None = None,
) -> keras.layers.Layer | None:
    """A new attention layer named `<site>_<attention>`, or `None`; see `insert_attention`.

    `dtype` and `data_format` replace those of the attention unless they are `None`.
    """
    boolean("start_as_identity", start_as_identity)
    is_chosen = is_choice(attention)
    template = attention_template(_chosen(attention, site) if is_chosen else attention, is_chosen)
    if template is None:
        return None
    config, layer_class = template.layer.get_config(), type(template.layer)
    if "start_as_identity" not in config and start_as_identity:
        raise ValueError(
            f"{layer_class.__name__} has no argument `start_as_identity`: insert it with "
            f"`start_as_identity=False`. Received: attention={template.layer!r}"
        )
    given = {"dtype": dtype, "data_format": data_format}
    given["start_as_identity"] = None if template.keeps_start else start_as_identity
    given = {key: value for key, value in given.items() if key in config and value is not None}
    return layer_class.from_config({**config, **given, "name": f"{site}_{template.short_name}"})
