"""Copies Functional and Sequential models, with layers added or left out on the way.

`Copier.copy_model` walks the graph of a model, rebuilds each layer from its config, calls the new
layers as the old ones were called, and at last carries over what `state.py` finds in each.
"""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import keras

from keras_cbam._compat import inner_layers, node_of, run_through_graph
from keras_cbam.insertion.backbones import backbone_graph, copied_backbone, is_plain, library_class
from keras_cbam.insertion.graph import (
    first_argument,
    is_functional,
    is_searchable,
    is_task,
    searched_model,
    unused,
)
from keras_cbam.insertion.state import carry_over

# What the configs of models have of the graph, and of what is carried over.
_NOT_ARGUMENTS = (
    *("layers", "input_layers", "output_layers", "build_input_shape"),
    *("trainable", "dtype"),
)


class Copier:
    """Copies layers and models, each once, so that what was shared stays shared.

    Args:
        added: gives the new layer, if any, after each call of a layer.
        removed: ids of layers that the copy leaves out.
    """

    def __init__(
        self,
        added: Callable[[Any], keras.Layer | None] = lambda layer: None,
        removed: Collection[int] = (),
    ):
        self.added = added
        self.removed = removed
        self.pairs = {}
        self.new_layers = []

    def copy_model(self, model: keras.Model) -> keras.Model:
        """The copy, uncompiled, with the state and trainable flags of the model."""
        copy = self.copy_layer(model)
        self.carry_over()
        return copy

    def copy_layer(self, layer: Any) -> Any:
        """The layer's one copy, without its state until `carry_over`."""
        if id(layer) not in self.pairs:
            self.pairs[id(layer)] = (layer, self._new_copy(layer))
        return self.pairs[id(layer)][1]

    def carry_over(self) -> None:
        """State and flags of every source layer into its copy."""
        pairs = [pair for pair in self.pairs.values() if isinstance(pair[0], keras.Layer)]
        carry_over([(pair, tuple(map(_parts, pair))) for pair in pairs], self.new_layers)

    def _new_copy(self, layer):
        if isinstance(layer, keras.Sequential):
            return self._copy_sequential(layer)
        if is_task(layer):
            backbone = self.copy_layer(layer.backbone)
            task = type(layer).from_config({**layer.get_config(), "backbone": backbone})
            task.name = layer.name
            return _with_attributes(layer, task)
        if is_functional(layer) and library_class(type(layer)):
            return copied_backbone(layer, self._copy_functional(backbone_graph(layer)))
        if is_functional(layer):
            return self._copy_functional(layer)
        if isinstance(layer, keras.layers.Lambda):
            raise ValueError(
                "A Lambda layer cannot be copied: replace it with a registered layer or with "
                f"operations of `keras.ops`. Received: layer {layer.name!r}"
            )
        try:
            config = layer.get_config()
            if searched_model(layer):
                return type(layer)(**{**config, "layer": self.copy_layer(layer.layer)})
            return type(layer).from_config(config)
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                "A copied layer needs a `get_config` with every argument of its constructor; a "
                "subclassed model can also be rebuilt as `keras.Model(inputs, outputs)`. "
                f"Received: layer {layer.name!r} of class {layer.__class__.__name__}"
            ) from error

    def _copy_functional(self, model):
        names = {operation.name: True for operation in model.operations}

        def copied_call(operation):
            if id(operation) in self.removed:
                return lambda *args, **kwargs: first_argument(operation, args, kwargs)
            copy = self.copy_layer(operation)

            def call(*args, **kwargs):
                outputs = copy(*args, **kwargs)
                added = self._added_after(operation, names)
                return added(outputs) if added else outputs

            return call

        inputs = keras.tree.map_structure(self._copy_input, model.input)
        outputs = run_through_graph(model, inputs, copied_call)
        return _rebuilt(model, inputs=inputs, outputs=outputs)

    def _copy_input(self, tensor):
        return self.copy_layer(node_of(tensor).operation).output

    def _copy_sequential(self, model):
        layers = [self._copy_input(model.inputs[0])]
        names = {layer.name: True for layer in model.layers}
        for layer in model.layers:
            if id(layer) not in self.removed:
                layers.append(self.copy_layer(layer))
                added = self._added_after(layer, names)
                layers.extend([added] if added else [])
        return _rebuilt(model, layers=layers)

    def _added_after(self, layer, names):
        """The new layer after one call. `names`, `{name: whether the model had it}`, grows."""
        added = self.added(layer)
        if added is None:
            return None
        if names.get(added.name):
            raise ValueError(
                f"The model already has a layer {added.name!r}: this site has attention of that "
                "kind. Choose other sites by `where`."
            )
        added.name = unused(added.name, names)
        names[added.name] = False
        self.new_layers.append((added, added.trainable))
        return added


def _parts(layer):
    """The layers in a layer that have a copy, or no copy, of their own."""
    if is_task(layer):
        return [layer.backbone]
    if is_functional(layer) and library_class(type(layer)):
        # What else its attributes hold, the encoder of a pyramid for example, is in the graph.
        return inner_layers(layer, include_self=False)
    if is_searchable(layer):
        return layer.layers
    return [layer.layer] if searched_model(layer) else []


def _rebuilt(model, **graph):
    """A model of the same class by its config, of other inputs and outputs, or of other layers."""
    kind = type(model)
    if kind.__init__.__module__.startswith("keras."):
        return kind(**graph, name=model.name)
    constructor = inspect.getfullargspec(kind.__init__)
    try:
        config = {k: v for k, v in model.get_config().items() if k not in _NOT_ARGUMENTS} | graph
        wanted = {*constructor.args[1:], *constructor.kwonlyargs}
        if lacking := wanted.difference(config, _NOT_ARGUMENTS, ["name"]):
            raise TypeError(f"The config lacks {sorted(lacking)}")
        if "layers" in graph:
            copy = kind(**config)
            has_grown = len(copy.layers) != len(graph["layers"]) - 1
        else:
            copy = kind.from_config(config)
            has_grown = [*map(id, copy.outputs)] != [*map(id, keras.tree.flatten(graph["outputs"]))]
        if has_grown:
            raise TypeError("The constructor adds to the graph")
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "The class of a model is kept if its constructor takes `inputs` and `outputs` (of a "
            "Sequential model: `layers`) and its `get_config` has every other argument. Or give "
            "`keras.Model(model.inputs, model.outputs)`, which is of no class of its own. "
            f"Received: model {model.name!r} of class {kind.__name__}"
        ) from error
    copy.name = model.name
    return _with_attributes(model, copy)


def _with_attributes(model, copy):
    """The copy with the plain attributes that the model's class, or its user, has set."""
    for name, value in vars(model).items():
        is_own = not name.startswith("_") and name not in _attributes_of_keras()
        if is_own and is_plain(value) and vars(copy).get(name, model) != value:
            setattr(copy, name, value)
    return copy


@functools.cache
def _attributes_of_keras():
    model = keras.Sequential([keras.Input((1,))])
    model.compile(loss="mse")
    return set(vars(model))
