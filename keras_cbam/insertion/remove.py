"""A copy of a Functional model without its attention."""

from keras_cbam.insertion.copying import Copier
from keras_cbam.insertion.graph import choose, is_searchable, layer_calls
from keras_cbam.layers.attention_layer import AttentionLayer


def remove_attention(model, where="auto"):
    """Copies a model without its attention layers: undoes `insert_attention`.

    The copy is as of `insert_attention`: unless the other layers were trained since the insertion,
    it computes exactly what the model did before.

    Args:
        model: Functional or built Sequential `keras.Model`; nested models are searched too.
        where: the layers to leave out. `"auto"` for every attention layer of this package; else,
            as of `insert_attention`, a choice among all layers whose output has the shape of their
            one input. Defaults to `"auto"`.

    Returns:
        A `keras.Model` with the model's inputs and outputs; of a backbone, see `insert_attention`.

    Raises:
        ValueError: if the model is subclassed, nothing is found or an unknown name is chosen, or
            the attention scores of a layer are used in the model.

    Example:

    >>> model = keras.applications.ResNet50(weights=None)
    >>> plain = remove_attention(insert_attention(model))
    >>> [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    True
    """
    attention, possible, unsuitable = {}, {}, set()
    for path, node, _ in layer_calls(model):
        layer = node.operation
        if is_searchable(layer) or not node.input_tensors:
            continue
        possible[path] = layer
        if isinstance(layer, AttentionLayer):
            attention[path] = layer
        if [tensor.shape for tensor in node.outputs] != [t.shape for t in node.input_tensors]:
            unsuitable.add(path)
    possible = {path: possible[path] for path in possible if path not in unsuitable}
    chosen = attention if isinstance(where, str) and where == "auto" else choose(possible, where)
    if not chosen:
        raise ValueError(
            f"No attention layer found in model {model.name!r}. Received: where={where!r}"
        )
    if not possible.keys() >= chosen.keys():
        raise ValueError(
            "An attention layer whose scores are used in the model cannot be removed. "
            f"Received: layer {min(chosen.keys() - possible.keys())!r}"
        )
    return Copier(removed={id(layer) for layer in chosen.values()}).copy_model(model)
