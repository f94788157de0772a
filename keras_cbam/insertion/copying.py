"""Copies of Functional models, with layers added or left out on the way."""

import keras
from keras import ops

from keras_cbam._compat import inner_layers
from keras_cbam.files.weight_files import finalize
from keras_cbam.insertion.backbones import backbone_graph, copied_backbone, library_class
from keras_cbam.insertion.graph import is_functional, is_searchable


class Copier:
    """Copies layers and models, each once, so that what was shared stays shared.

    `added` gives the new layer, if any, after each call of a layer; `removed` are ids of layers.
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
        """The layer's one copy, without its weights until `carry_over`."""
        if id(layer) not in self.pairs:
            # Entered before its own layers, so that flags are carried over from the outside in.
            self.pairs[id(layer)] = [layer, None]
            self.pairs[id(layer)][1] = self._new_copy(layer)
        return self.pairs[id(layer)][1]

    def _new_copy(self, layer):
        if isinstance(layer, keras.Sequential):
            return self._copy_sequential(layer)
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
            return layer.__class__.from_config(layer.get_config())
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                "A copied layer needs a `get_config` with every argument of its constructor; a "
                "subclassed model can also be rebuilt as `keras.Model(inputs, outputs)`. "
                f"Received: layer {layer.name!r} of class {layer.__class__.__name__}"
            ) from error

    def _copy_functional(self, model):
        sources = {}
        names = dict.fromkeys(operation.name for operation in model.operations)

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
            added = self._added_after(sources[id(operation)], names)
            return added(outputs) if added else outputs

        # `clone_model` would compile the copy, from a configuration that need not be serializable.
        is_compiled, model.compiled = model.compiled, False
        try:
            return keras.models.clone_model(model, clone_function=clone, call_function=call)
        finally:
            model.compiled = is_compiled

    def _copy_sequential(self, model):
        source = model.inputs[0]
        layers = [keras.Input(batch_shape=source.shape, dtype=source.dtype, name=source.name)]
        names = dict.fromkeys(layer.name for layer in model.layers)
        for layer in model.layers:
            if id(layer) not in self.removed:
                layers.append(self.copy_layer(layer))
                added = self._added_after(layer, names)
                layers.extend([added] if added else [])
        return keras.Sequential(layers, name=model.name)

    def _added_after(self, layer, names):
        """The new layer after one call, named `<name>_1` and so on for further calls."""
        added = self.added(layer)
        if added is None:
            return None
        # How many were added, or `None` if the name is a layer's of the model.
        count = names.setdefault(added.name, 0)
        if count is None:
            raise ValueError(
                f"The model already has a layer {added.name!r}: this site has attention of that "
                "kind. Choose other sites by `where`."
            )
        names[added.name] += 1
        if count:
            added.name = f"{added.name}_{count}"
        return added

    def carry_over(self):
        """Weights and flags of every source layer into its copy."""
        pairs = [pair for pair in self.pairs.values() if isinstance(pair[0], keras.layers.Layer)]
        # A model's flag sets those of all its layers, so the models go first, outer before inner.
        for source, copy in sorted(pairs, key=lambda pair: not is_searchable(pair[0])):
            copy.trainable = source.trainable
            if is_searchable(source):
                continue
            for inner, inner_copy in zip(inner_layers(source), inner_layers(copy), strict=True):
                inner_copy.trainable = inner.trainable
            for variable, variable_copy in zip(source.variables, copy.variables, strict=True):
                # By way of NumPy: on JAX the copy would share an array that training frees.
                variable_copy.assign(ops.convert_to_numpy(variable))
            finalize(copy)
