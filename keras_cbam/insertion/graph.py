"""The graph of a Functional model: its calls, its layers, and choices among them."""

import re

import keras

from keras_cbam.layers.attention_layer import AttentionLayer


def is_functional(model):
    return isinstance(model, keras.Model) and isinstance(model, keras.Function)


def is_searchable(model):
    return is_functional(model) or isinstance(model, keras.Sequential)


def require_searchable(model):
    """Raises ValueError unless `model` has a graph of layers that can be read."""
    if not is_searchable(model):
        raise ValueError(
            "The model must be Functional or Sequential: the graph of a subclassed model is not "
            "known. Rebuild it as `keras.Model(inputs, outputs)`, where `outputs` come from "
            "calling its layers one after the other on `keras.Input` tensors, or put an attention "
            f"layer into its `call` by hand. Received: {model!r}"
        )
    if not type(model).call.__module__.startswith("keras."):
        raise ValueError(
            "A model whose class overrides `call` does more than its graph says. Rebuild it as "
            f"`keras.Model(inputs, outputs)`. Received: {model!r}"
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            "A Sequential model without an input shape has no graph yet: start it with a "
            f"`keras.Input`, or call `build(input_shape)`. Received: {model!r}"
        )


def data_format(model):
    """The data format of a model's first layer that has one; its other layers need not say."""
    for layer in model._flatten_layers():
        if getattr(layer, "data_format", None) is not None:
            return layer.data_format
    return None


def graph_nodes(model):
    """The calls that lead from the model's inputs to its outputs, each after the calls it needs."""
    inputs = {id(tensor) for tensor in model.inputs}
    ordered, seen = [], set()
    stack = [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, is_expanded = stack.pop()
        operation, node_index, _ = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        if is_expanded:
            if id(node) not in seen:
                seen.add(id(node))
                ordered.append(node)
        elif id(node) not in seen:
            stack.append((tensor, True))
            if id(tensor) not in inputs:
                stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return ordered


def candidates(model, prefix=""):
    """`{path: layer}` of the layers whose output attention can refine, nested models and theirs.

    The path of a layer in a nested model is `<model>/<layer>`.
    """
    require_searchable(model)
    found = {}
    model_format = data_format(model)
    for node in graph_nodes(model):
        layer = node.operation
        if not isinstance(layer, keras.layers.Layer):
            continue
        if is_searchable(layer):
            found.update(candidates(layer, prefix=f"{prefix}{layer.name}/"))
        if is_attendable(layer, node, model_format):
            found[prefix + layer.name] = layer
    return found


def is_attendable(layer, node, model_format):
    if not isinstance(layer, keras.layers.Layer) or len(node.outputs) != 1:
        return False
    if isinstance(layer, (keras.layers.InputLayer, AttentionLayer)):
        return False
    output = node.outputs[0]
    layer_format = getattr(layer, "data_format", None) or model_format
    channel_axis = 1 if layer_format == "channels_first" else -1
    return (
        3 <= len(output.shape) <= 5
        and output.shape[channel_axis] is not None
        and "float" in keras.backend.standardize_dtype(output.dtype)
    )


def choose(possible, where, argument="where"):
    """The layers that `where` chooses among `possible`, `{path: layer}`; maybe none.

    Args:
        possible: dict of layers by path.
        where: regular expression, collection of names or paths, or predicate on the layer.
        argument: string, what the caller calls `where`. Defaults to `"where"`.

    Raises:
        ValueError: if `where` is none of these or names an unknown layer.
    """
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
    if not possible:
        return "The model has no layer with spatial axes."
    shown = ", ".join(list(possible)[:40])
    more = f" and {len(possible) - 40} more" if len(possible) > 40 else ""
    kind = "layers with spatial axes" if argument == "where" else "attention layers"
    return f"Pass `{argument}` to choose among its {kind}: {shown}{more}."
