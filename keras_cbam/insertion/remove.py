"""Removes attention: copies a Functional model without chosen layers."""

import keras

from keras_cbam._types import Where
from keras_cbam.insertion.copying import Copier
from keras_cbam.insertion.graph import choose, first_argument, layer_calls, searched_model
from keras_cbam.layers.attention_layer import AttentionLayer


def remove_attention(model: keras.Model, where: Where = "auto") -> keras.Model:
    """Copies a model without its attention layers: undoes `insert_attention`.

    The copy is one like that of `insert_attention`: unless the other layers were trained since,
    it computes exactly what the model did before.

    Args:
        model: see `insert_attention`.
        where: the layers to leave out. `"auto"` for every attention layer of this package; else,
            as for `insert_attention`, a choice among all layers whose output has the shape of their
            one input. Defaults to `"auto"`.

    Returns:
        See `insert_attention`; all flags are kept.

    Raises:
        ValueError: as for `insert_attention`, or if the attention scores of a layer are used in the
            model.

    Example:

    >>> model = keras.applications.ResNet50(weights=None)
    >>> plain = remove_attention(insert_attention(model))
    >>> [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    True
    """
    layers, can_go = {}, {}
    for path, node, _ in layer_calls(model):
        if not searched_model(node.operation) and node.input_tensors:
            layers[path] = node.operation
            features = first_argument(node.operation, node.arguments.args, node.arguments.kwargs)
            keeps_shape = [getattr(features, "shape", None)] == [x.shape for x in node.outputs]
            can_go[path] = keeps_shape and can_go.get(path, True)
    if isinstance(where, str) and where == "auto":
        chosen = {path: x for path, x in layers.items() if isinstance(x, AttentionLayer)}
    else:
        chosen = choose({path: x for path, x in layers.items() if can_go[path]}, where)
    if not chosen:
        raise ValueError(
            f"No attention layer found in model {model.name!r}. Received: where={where!r}"
        )
    for path in chosen:
        if not can_go[path]:
            raise ValueError(
                "An attention layer whose scores are used in the model cannot be removed. "
                f"Received: layer {path!r}"
            )
    return Copier(removed={id(layer) for layer in chosen.values()}).copy_model(model)
