"""Finds the layers and operations of a model, and watches their calls in a forward pass."""

import contextlib
import functools
import typing
from collections.abc import Callable, Iterable, Iterator

import keras

from keras_cbam._compat import inner_layers
from keras_cbam.insertion.graph import is_functional, unused
from keras_cbam.layers.attention_layer import AttentionLayer

# Their parts see tokens or pools, not feature maps.
_WHOLE = (AttentionLayer, keras.layers.GroupQueryAttention, keras.layers.MultiHeadAttention)


def find_operations(model: keras.Model) -> dict[str, typing.Any]:
    """`{path: operation}` of a model, inner layers included, except those of attention layers.

    The path in a nested model is `<model>/<layer>`, or the first of several.
    """
    found, seen = {}, set()

    def search(layer, prefix):
        for operation in _children(layer):
            if id(operation) not in seen:
                seen.add(id(operation))
                path = unused(prefix + operation.name, found)
                found[path] = operation
                search(operation, f"{path}/")

    search(model, "")
    return found


def _children(layer):
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, _WHOLE):
        return []
    if is_functional(layer):
        return layer.operations
    return inner_layers(layer, include_self=False, recursive=False)


def ensure_built(model: keras.Model, inputs: typing.Any) -> None:
    """Calls a model that was never called: building calls its layers too, on symbols."""
    if not model.built:
        model(keras.tree.map_structure(lambda array: array[:1], inputs), training=False)


@contextlib.contextmanager
def hooked(hooks: Iterable[tuple[typing.Any, Callable[..., typing.Any]]]) -> Iterator[None]:
    """Within the block, each `(operation, hook)` computes `hook(call, ...)` for `call(...)`."""
    with contextlib.ExitStack() as stack:
        for operation, hook in hooks:
            call = functools.partial(hook, operation.call)
            stack.enter_context(replaced(operation, call=call))
        yield


@contextlib.contextmanager
def replaced(operation: object, **values: typing.Any) -> Iterator[None]:
    """Within the block, an operation has other values of attributes."""
    # Past `__setattr__`, by which Keras tracks what layers hold.
    attributes = vars(operation)
    before = {name: attributes[name] for name in values if name in attributes}
    attributes.update(values)
    try:
        yield
    finally:
        for name in values:
            del attributes[name]
        attributes.update(before)
