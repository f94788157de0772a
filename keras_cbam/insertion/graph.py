"""The graph of a Functional model: its calls, its layers, and choices among them."""

import re

import keras

from keras_cbam._compat import inner_layers, node_of
from keras_cbam.layers.attention_layer import AttentionLayer


def is_functional(model):
    return isinstance(model, keras.Model) and isinstance(model, keras.Function)


def is_searchable(model):
    return is_functional(model) or isinstance(model, keras.Sequential)


def require_searchable(model):
    """Raises ValueError unless `model` has a graph of layers that can be read."""
    if not is_searchable(model):
        raise ValueError(
            "The model must be Functional or Sequential: a subclassed model has no graph. Rebuild "
            "it as `keras.Model(inputs, outputs)`, where its layers are called one after the other "
            f"on a `keras.Input`, or put attention into its `call` by hand. Received: {model!r}"
        )
    if not type(model).call.__module__.startswith("keras."):
        raise ValueError(
            "A model whose class overrides `call` does more than its graph. Rebuild it as "
            f"`keras.Model(inputs, outputs)`. Received: {model!r}"
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            "A Sequential model without an input shape has no graph yet: start it with a "
            f"`keras.Input`, or call `build(input_shape)`. Received: {model!r}"
        )


def data_format(model):
    """The data format of a model's first layer that has one, or `None`."""
    formats = (getattr(layer, "data_format", None) for layer in inner_layers(model))
    return next(filter(None, formats), None)


def graph_nodes(model):
    """The calls that lead from the model's inputs to its outputs, each after the calls it needs."""
    inputs = {id(tensor) for tensor in model.inputs}
    ordered, seen = [], set()
    stack = [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, is_expanded = stack.pop()
        node = node_of(tensor)
        if is_expanded:
            if id(node) not in seen:
                seen.add(id(node))
                ordered.append(node)
        elif id(node) not in seen:
            stack.append((tensor, True))
            if id(tensor) not in inputs:
                stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return ordered


def layer_calls(model, prefix=""):
    """Yields path (`<model>/<layer>` in nested models), node and data format of each layer call."""
    require_searchable(model)
    model_format = data_format(model)
    for node in graph_nodes(model):
        layer = node.operation
        if isinstance(layer, keras.layers.Layer):
            path = f"{prefix}{layer.name}"
            if is_searchable(layer):
                yield from layer_calls(layer, prefix=f"{path}/")
            yield path, node, model_format


def is_attendable(node, model_format):
    """Whether attention can refine the output of a call."""
    layer, output = node.operation, node.outputs[0]
    layer_format = getattr(layer, "data_format", None) or model_format
    return (
        isinstance(layer, keras.layers.Layer)
        and not isinstance(layer, (keras.layers.InputLayer, AttentionLayer))
        and len(node.outputs) == 1
        and 3 <= len(output.shape) <= 5
        and output.shape[1 if layer_format == "channels_first" else -1] is not None
        and "float" in keras.backend.standardize_dtype(output.dtype)
    )


def choose(possible, where, argument="where"):
    """The layers of `possible`, `{path: layer}`, that `where` chooses; `argument` is its name."""
    if isinstance(where, str):
        try:
            pattern = re.compile(where)
        except re.error as error:
            raise ValueError(
                f"`{argument}` is not a valid regular expression: {error}. "
                f"Received: {argument}={where!r}"
            ) from error
        return {path: layer for path, layer in possible.items() if pattern.search(path)}
    if callable(where):
        return {path: layer for path, layer in possible.items() if where(layer)}
    if not isinstance(where, (list, tuple, set, frozenset)):
        automatic = '"auto", ' if argument == "where" else ""
        raise ValueError(
            f"`{argument}` must be {automatic}a regular expression, a collection of names or a "
            f"predicate. Received: {argument}={where!r}"
        )
    chosen = {}
    for name in where:
        matches = {p: layer for p, layer in possible.items() if name in (p, layer.name)}
        if not matches:
            raise ValueError(
                f"No such layer that `{argument}` could choose: {name!r}. "
                f"{list_layers(possible, argument)} Received: {argument}={where!r}"
            )
        chosen.update(matches)
    return chosen


def list_layers(possible, argument="where"):
    """A sentence for an error: the layers that `argument` could choose."""
    if not possible:
        return "The model has no layer with spatial axes."
    kind = "layers with spatial axes" if argument == "where" else "attention layers"
    more = f" and {len(possible) - 40} more" if len(possible) > 40 else ""
    shown = ", ".join(list(possible)[:40])
    return f"Pass `{argument}` to choose among its {kind}: {shown}{more}."
