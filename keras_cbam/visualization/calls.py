"""The calls of a model's layers and operations, watched during a forward pass."""

import contextlib
import functools

import keras

from keras_cbam.insertion.graph import is_functional
from keras_cbam.layers.attention_layer import AttentionLayer


def find_operations(model, prefix=""):
    """`{path: operation}` of a model's layers and operations, those of inner layers as well.

    The path of a layer in a nested model is `<model>/<layer>`. Attention layers are not searched:
    their gates are theirs.

    Args:
        model: `keras.Model` of any kind, or layer.
        prefix: string that all paths start with. Defaults to `""`.
    """
    found = {}
    if isinstance(model, AttentionLayer):
        return found
    inner = model.operations if is_functional(model) else _children(model)
    for operation in inner:
        path = prefix + operation.name
        found[path] = operation
        found.update(find_operations(operation, f"{path}/"))
    return found


def _children(layer):
    if not isinstance(layer, keras.layers.Layer):
        return []
    return layer._flatten_layers(include_self=False, recursive=False)


@contextlib.contextmanager
def hooked(hooks):
    """Within the block, other functions answer the calls of layers and operations.

    Args:
        hooks: list of pairs `(operation, hook)`: where the operation would compute
            `call(*args, **kwargs)`, it computes `hook(call, *args, **kwargs)`.
    """
    with contextlib.ExitStack() as stack:
        for operation, hook in hooks:
            # Past `__setattr__`, by which Keras tracks what layers hold.
            attributes = vars(operation)
            before = attributes.get("call")
            stack.callback(_restore, attributes, before)
            attributes["call"] = functools.partial(hook, operation.call)
        yield


def _restore(attributes, before):
    del attributes["call"]
    if before is not None:
        attributes["call"] = before
