"""A copy of a Functional model without its attention."""

import keras

from keras_cbam.insertion.copying import Copier
from keras_cbam.insertion.graph import choose, graph_nodes, is_searchable, require_searchable
from keras_cbam.layers.attention_layer import AttentionLayer


def remove_attention(model, where="auto"):
    """Copies a model without its attention layers: what `insert_attention` did, undone.

    The given model is untouched and shares no variable with the copy. The weights of all other
    layers, their names, trainable flags and dtype policies are carried over: as long as they were
    not trained since the insertion, the copy computes exactly what the model did before it.
    Attention layers that the model had before are left out too; `where` keeps them. The copy is not
    compiled.

    Args:
        model: Functional or built Sequential `keras.Model`; nested models are searched too.
        where: which layers to leave out. `"auto"` for every attention layer of this package; for
            others, such as those of a template of your own, a regular expression that is searched
            for in the layers' names (`<model>/<layer>` in nested models), a collection of names,
            or a predicate on the layer, among the layers with one input and one output of the
            same shape. Defaults to `"auto"`.

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
    attention, possible = _layers(model)
    chosen = attention if isinstance(where, str) and where == "auto" else choose(possible, where)
    if not chosen:
        raise ValueError(
            f"No attention layer found in model {model.name!r}. Received: where={where!r}"
        )
    unsuitable = [path for path in chosen if path not in possible]
    if unsuitable:
        raise ValueError(
            "An attention layer whose scores are used in the model cannot be removed. "
            f"Received: layer {unsuitable[0]!r}"
        )
    return Copier(removed={id(layer) for layer in chosen.values()}).copy_model(model)


def _layers(model, prefix=""):
    """`{path: layer}` of the attention layers, and of the layers that can be left out."""
    require_searchable(model)
    attention, possible, unsuitable = {}, {}, set()
    for node in graph_nodes(model):
        layer = node.operation
        path = f"{prefix}{layer.name}"
        if not isinstance(layer, keras.layers.Layer) or not node.input_tensors:
            continue
        if is_searchable(layer):
            inner = _layers(layer, prefix=f"{path}/")
            attention.update(inner[0])
            possible.update(inner[1])
            continue
        if isinstance(layer, AttentionLayer):
            attention[path] = layer
        if [tensor.shape for tensor in node.outputs] == [t.shape for t in node.input_tensors]:
            possible[path] = layer
        else:
            unsuitable.add(path)
    return attention, {path: possible[path] for path in possible if path not in unsuitable}
