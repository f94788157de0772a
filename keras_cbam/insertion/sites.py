"""Which layers of a Functional model get attention."""

import re

import keras

from keras_cbam.layers.attention_layer import AttentionLayer

# One row a family that the residual rule does not describe: a pattern that every site's name
# matches in full, and only in that family.
FAMILIES = {
    # No residual connections. "After each depthwise and each pointwise unit" is the reading that
    # gives the paper's parameter counts.
    "MobileNet": r"conv_(dw|pw)_\d+_relu",
    # Its stride-2 blocks have no addition, and are attended at their last layer all the same.
    "MobileNetV2": r"(expanded_conv|block_\d+)_project_BN",
}


def is_functional(model):
    return isinstance(model, keras.Model) and isinstance(model, keras.Function)


def is_searchable(model):
    return is_functional(model) or isinstance(model, keras.Sequential)


def require_searchable(model):
    """Raises ValueError unless `model` has a graph of layers that can be read."""
    if not is_searchable(model):
        raise ValueError(
            "Attention can be inserted in Functional and Sequential models only: the graph of a "
            "subclassed model is not known. Rebuild it as `keras.Model(inputs, outputs)`, where "
            "`outputs` come from calling its layers one after the other on `keras.Input` tensors, "
            f"or put the attention layer into its `call`. Received: {model!r}"
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
        if _is_attendable(layer, node, model_format):
            found[prefix + layer.name] = layer
    return found


def _is_attendable(layer, node, model_format):
    if isinstance(layer, (keras.layers.InputLayer, AttentionLayer)) or len(node.outputs) != 1:
        return False
    output = node.outputs[0]
    layer_format = getattr(layer, "data_format", None) or model_format
    channel_axis = 1 if layer_format == "channels_first" else -1
    return (
        3 <= len(output.shape) <= 5
        and output.shape[channel_axis] is not None
        and "float" in keras.backend.standardize_dtype(output.dtype)
    )


def residual_sites(model):
    """The last layers of the residual branches of one graph, in the order of their calls.

    At every addition of two tensors, layer or operator, the residual branch is the one with more
    layers that hold weights since the two branches parted; the other is the shortcut. An addition
    whose branches hold equally many, or whose residual branch contains another addition (the
    top-down path of a feature pyramid), is not a residual connection.
    """
    nodes = graph_nodes(model)
    model_format = data_format(model)
    position = {id(node): index for index, node in enumerate(nodes)}
    producer = {id(tensor): node for node in nodes for tensor in node.outputs}
    # Bit sets of positions: everything that a node depends on, itself included.
    ancestors, with_weights, additions = [], 0, 0
    sites = []
    for index, node in enumerate(nodes):
        parents = [producer[id(t)] for t in node.input_tensors if id(t) in producer]
        reached = 1 << index
        for parent in parents:
            reached |= ancestors[position[id(parent)]]
        ancestors.append(reached)
        if getattr(node.operation, "weights", None):
            with_weights |= 1 << index
        if node.operation.__class__.__name__ != "Add" or len(parents) != 2:
            continue
        additions |= 1 << index
        first, second = (ancestors[position[id(parent)]] for parent in parents)
        branches = [first & ~second, second & ~first]
        weights = [(branch & with_weights).bit_count() for branch in branches]
        residual = 0 if weights[0] > weights[1] else 1
        if weights[0] == weights[1] or branches[residual] & additions:
            continue
        site = parents[residual]
        while not isinstance(site.operation, keras.layers.Layer) or isinstance(
            site.operation, AttentionLayer
        ):
            if len(site.input_tensors) != 1:
                break
            site = producer[id(site.input_tensors[0])]
        if _is_attendable(site.operation, site, model_format) and site.operation not in sites:
            sites.append(site.operation)
    return sites


def _automatic_sites(model, prefix=""):
    layers = [node.operation for node in graph_nodes(model)]
    names = {layer.name for layer in layers}
    for pattern in FAMILIES.values():
        if any(re.fullmatch(pattern, name) for name in names):
            chosen = {layer.name for layer in layers if re.fullmatch(pattern, layer.name)}
            break
    else:
        chosen = {layer.name for layer in residual_sites(model)}
    found = {}
    for layer in layers:
        if is_searchable(layer):
            found.update(_automatic_sites(layer, prefix=f"{prefix}{layer.name}/"))
        if layer.name in chosen:
            found[prefix + layer.name] = layer
    return found


def select_sites(model, where="auto"):
    """`{path: layer}` of the layers that `where` chooses; see `insert_attention`."""
    possible = candidates(model)
    if isinstance(where, str) and where == "auto":
        chosen = _automatic_sites(model)
    elif isinstance(where, str):
        try:
            pattern = re.compile(where)
        except re.error as error:
            raise ValueError(
                f"`where` is not a valid regular expression: {error}. Received: where={where!r}"
            ) from error
        chosen = {path: layer for path, layer in possible.items() if pattern.search(path)}
    elif callable(where):
        chosen = {path: layer for path, layer in possible.items() if where(layer)}
    elif not isinstance(where, (list, tuple, set, frozenset)):
        raise ValueError(
            '`where` must be "auto", a regular expression, a collection of names or a predicate. '
            f"Received: where={where!r}"
        )
    else:
        chosen = {}
        for name in where:
            matches = {p: layer for p, layer in possible.items() if name in (p, layer.name)}
            if not matches:
                raise ValueError(
                    f"No layer {name!r} with an output that attention can refine. "
                    f"{_list_candidates(possible)} Received: where={where!r}"
                )
            chosen.update(matches)
    if not chosen:
        raise ValueError(
            f"No site for attention found in model {model.name!r}. "
            f"{_list_candidates(possible)} Received: where={where!r}"
        )
    return chosen


def _list_candidates(possible):
    if not possible:
        return "The model has no layer with spatial axes."
    shown = ", ".join(list(possible)[:40])
    more = f" and {len(possible) - 40} more" if len(possible) > 40 else ""
    return f"Pass `where` to choose among its layers with spatial axes: {shown}{more}."


def find_sites(model):
    """The layers that `insert_attention(model, where="auto")` attends.

    - Residual networks: the last layer of each residual branch, before the addition with the
      shortcut. Additions are found in the graph, as layers and as the operator `+`.
    - MobileNet: the end of each depthwise and each pointwise unit.
    - MobileNetV2: the last layer of each block, with or without an addition.

    Nested models are searched too; their layers are named `<model>/<layer>`.

    Args:
        model: Functional or built Sequential `keras.Model`.

    Returns:
        List of layer names, in the order of the graph.

    Raises:
        ValueError: if the model is subclassed, or no site is found; the message lists the layers
            that `where` could name instead.

    Example:

    >>> find_sites(keras.applications.ResNet50(weights=None))[:2]
    ['conv2_block1_3_bn', 'conv2_block2_3_bn']

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), section 4.1 and figure 3
    """
    return list(select_sites(model))
