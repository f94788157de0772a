"""Copies of Functional models, with layers added or left out on the way."""

import keras
from keras import ops

from keras_cbam.files.weight_files import finalize
from keras_cbam.insertion.backbones import backbone_graph, copied_backbone, is_backbone
from keras_cbam.insertion.graph import is_functional, is_searchable


class Copier:
    """Copies layers and models, each once, so that what was shared stays shared.

    Args:
        added: function `layer -> new layer or None`, asked once for every call of a layer: the new
            layer goes after that call, under its own name. Defaults to none.
        removed: ids of the layers that are left out: what follows them gets their inputs.
            Defaults to none.
    """

    def __init__(self, added=lambda layer: None, removed=()):
        self.added = added
        self.removed = removed
        self.pairs = {}

    def copy_model(self, model):
        """The copy, uncompiled, with the weights and trainable flags of the model."""
        copy = self.copy_layer(model)
        self.carry_over()
        return copy

    def copy_layer(self, layer):
        """The layer's one copy, as yet without its weights; the same for every call."""
        if id(layer) not in self.pairs:
            # Registered before its own layers, so that flags are carried over from the outside in.
            self.pairs[id(layer)] = [layer, None]
            self.pairs[id(layer)][1] = self._new_copy(layer)
        return self.pairs[id(layer)][1]

    def _new_copy(self, layer):
        if isinstance(layer, keras.Sequential):
            return self._copy_sequential(layer)
        if is_functional(layer) and is_backbone(layer):
            return copied_backbone(layer, self._copy_functional(backbone_graph(layer)))
        if is_functional(layer):
            return self._copy_functional(layer)
        if isinstance(layer, keras.layers.Lambda):
            raise ValueError(
                "A Lambda layer cannot be copied: replace it with a registered layer or with "
                f"operations of `keras.ops`. Received: layer {layer.name!r}"
            )
        try:
            return layer.__class__.from_config(layer.get_config())
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                "A layer cannot be copied whose configuration does not give it back. Give its "
                "class a `get_config` with every argument of its constructor; a subclassed model "
                "can also be rebuilt as `keras.Model(inputs, outputs)`. "
                f"Received: layer {layer.name!r} of class {layer.__class__.__name__}"
            ) from error

    def _copy_functional(self, model):
        sources = {}
        names = _Names(operation.name for operation in model.operations)

        def clone(operation):
            if id(operation) in self.removed:
                return None
            copy = self.copy_layer(operation)
            sources[id(copy)] = operation
            return copy

        def call(operation, *args, **kwargs):
            if operation is None:
                return args[0]
            outputs = operation(*args, **kwargs)
            layer = names.renamed(self.added(sources[id(operation)]))
            return layer(outputs) if layer else outputs

        # `clone_model` would compile the copy, from a configuration that need not be serializable.
        is_compiled, model.compiled = model.compiled, False
        try:
            return keras.models.clone_model(model, clone_function=clone, call_function=call)
        finally:
            model.compiled = is_compiled

    def _copy_sequential(self, model):
        source = model.inputs[0]
        layers = [keras.Input(batch_shape=source.shape, dtype=source.dtype, name=source.name)]
        names = _Names(layer.name for layer in model.layers)
        for layer in model.layers:
            if id(layer) not in self.removed:
                layers.append(self.copy_layer(layer))
                added = names.renamed(self.added(layer))
                layers.extend([added] if added else [])
        return keras.Sequential(layers, name=model.name)

    def carry_over(self):
        """Weights and flags of every source layer into its copy."""
        pairs = [pair for pair in self.pairs.values() if isinstance(pair[0], keras.layers.Layer)]
        # A model's flag sets those of all its layers, so the models go first, outer before inner.
        for source, copy in sorted(pairs, key=lambda pair: not is_searchable(pair[0])):
            copy.trainable = source.trainable
            if is_searchable(source):
                continue
            for inner, inner_copy in zip(
                source._flatten_layers(), copy._flatten_layers(), strict=True
            ):
                inner_copy.trainable = inner.trainable
            for variable, variable_copy in zip(source.variables, copy.variables, strict=True):
                # By way of NumPy: JAX would share the array, and a model that trains gives up its
                # own.
                variable_copy.assign(ops.convert_to_numpy(variable))
            finalize(copy)


class _Names:
    """The names of one graph, old and new."""

    def __init__(self, names):
        self.taken = set(names)
        self.calls = {}

    def renamed(self, layer):
        """The added layer under a name of its own: `<name>_1` and so on for further calls."""
        if layer is None:
            return None
        name = layer.name
        if name in self.taken:
            raise ValueError(
                f"The model already has a layer {name!r}: this site has attention of that kind. "
                "Choose other sites by `where`."
            )
        call = self.calls[name] = self.calls.get(name, -1) + 1
        if call:
            layer.name = f"{name}_{call}"
        return layer
