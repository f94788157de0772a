"""The types of arguments that several public functions take."""

import typing
from collections.abc import Callable, Collection, Mapping

import keras

Activation = str | Mapping[str, typing.Any] | Callable[..., typing.Any] | None
Initializer = str | Mapping[str, typing.Any] | Callable[..., typing.Any]
Regularizer = str | Mapping[str, typing.Any] | Callable[..., typing.Any] | None
# A name, a config, a layer, a class, a callable that gives one of these, or none.
Attention = (
    str
    | Mapping[str, typing.Any]
    | keras.layers.Layer
    | type[keras.layers.Layer]
    | Callable[..., typing.Any]
    | None
)
# "auto", a regular expression, a collection of names, or a predicate.
Where = str | Collection[str] | Callable[[keras.layers.Layer], bool]
