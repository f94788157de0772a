"""A copy of a Functional model with attention in it."""

import keras
from keras import ops

from keras_cbam.attention import attention_layer
from keras_cbam.insertion.sites import data_format, is_functional, is_searchable, select_sites


def insert_attention(model, attention="cbam", where="auto", start_as_identity=True):
    """Copies a model, with an attention layer after each chosen layer.

    The given model is untouched and shares no variable with the copy. Weights, layer names,
    trainable flags and dtype policies are carried over. An inserted layer is named
    `<site>_<attention>`, `conv5_block3_3_bn_cbam` for example, and has its site's dtype policy.
    A layer that is called several times gets one attention layer for each call. The copy is not
    compiled.

    Args:
        model: Functional or built Sequential `keras.Model`; nested models are searched too.
        attention: string (`"cbam"`, `"se"`, `"channel"`, `"spatial"`), config dict, layer (a
            template whose config is copied) or callable `site name -> one of these, or None`.
            Defaults to `"cbam"`.
        where: which layers to attend. `"auto"` for those of `find_sites`, a regular expression
            that is searched for in the layers' names (`<model>/<layer>` in nested models), a
            collection of names, or a predicate on the layer. Defaults to `"auto"`.
        start_as_identity: bool, whether the copy computes exactly what the model does until it
            is trained, see `CBAM`. Overrides the argument of a config or a template.
            Defaults to `True`.

    Returns:
        A `keras.Model` with the model's inputs and outputs.

    Raises:
        ValueError: if the model is subclassed, nothing or an unknown name is chosen (the message
            lists what could be), the attention is unknown, or attention of the same name is
            already there.

    Example:

    >>> model = keras.applications.ResNet50(weights=None)
    >>> attended = insert_attention(model)
    >>> len(attended.layers) - len(model.layers)
    16
    """
    sites = {id(layer) for layer in select_sites(model, where).values()}
    copier = _Copier(model, attention, sites, start_as_identity)
    copy = copier.copy(model)
    copier.carry_over()
    return copy


class _Copier:
    """Copies layers and models, each once, so that what was shared stays shared."""

    def __init__(self, model, attention, sites, start_as_identity):
        self.attention = attention
        self.sites = sites
        self.start_as_identity = start_as_identity
        self.data_format = data_format(model)
        self.pairs = {}

    def copy(self, layer):
        if id(layer) not in self.pairs:
            # Registered before its own layers, so that flags are carried over from the outside in.
            self.pairs[id(layer)] = [layer, None]
            self.pairs[id(layer)][1] = self._copy(layer)
        return self.pairs[id(layer)][1]

    def _copy(self, layer):
        if isinstance(layer, keras.Sequential):
            return self._copy_sequential(layer)
        if is_functional(layer):
            return self._copy_functional(layer)
        if isinstance(layer, keras.layers.Lambda):
            raise ValueError(
                "A Lambda layer cannot be copied: replace it with a registered layer or with "
                f"operations of `keras.ops`. Received: layer {layer.name!r}"
            )
        return layer.__class__.from_config(layer.get_config())

    def _copy_functional(self, model):
        sites_of_copies = {}
        names = _Names(operation.name for operation in model.operations)

        def clone(operation):
            copy = self.copy(operation)
            if id(operation) in self.sites:
                sites_of_copies[id(copy)] = operation
            return copy

        def call(operation, *args, **kwargs):
            outputs = operation(*args, **kwargs)
            site = sites_of_copies.get(id(operation))
            layer = site and self._attention(site, names)
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
            layers.append(self.copy(layer))
            attention = id(layer) in self.sites and self._attention(layer, names)
            if attention:
                layers.append(attention)
        return keras.Sequential(layers, name=model.name)

    def _attention(self, site, names):
        """The attention layer for one call of a site, under a name that is new in the model."""
        layer = attention_layer(
            self.attention,
            site.name,
            start_as_identity=self.start_as_identity,
            dtype=site.dtype_policy,
            data_format=getattr(site, "data_format", None) or self.data_format,
        )
        if layer is None:
            return None
        layer.name = names.new(layer.name)
        return layer

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


class _Names:
    """The names of one graph, old and new."""

    def __init__(self, names):
        self.taken = set(names)
        self.calls = {}

    def new(self, name):
        """The name itself for a site's first call, `<name>_1` and so on for further calls."""
        if name in self.taken:
            raise ValueError(
                f"The model already has a layer {name!r}: this site has attention of that kind. "
                "Choose other sites by `where`."
            )
        call = self.calls[name] = self.calls.get(name, -1) + 1
        return f"{name}_{call}" if call else name
