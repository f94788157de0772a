"""Carries over what layers keep into their copies: flags, variables, tables and files."""

import os
import pathlib
import tempfile

import numpy as np
from keras import ops

from keras_cbam._compat import inner_layers


def carry_over(pairs, new_layers):
    """Gives each copy the state and the trainable flags of its source.

    A model that holds a new layer becomes trainable, or its flag would freeze the new layer.

    Args:
        pairs: list of `((source, copy), (source's parts, copy's parts))`. The parts are layers
            inside that stand in pairs of their own, or in none.
        new_layers: list of `(layer, trainable flag)`.
    """
    matched = [match for pair, parts in pairs for match in _matches(pair, parts)]
    # A flag sets those of all layers inside, so the largest go first.
    matched.sort(key=lambda match: -len(inner_layers(match[1])))
    new = {id(layer) for layer, _ in new_layers}
    for source, copy in matched:
        if source.built and not copy.built:
            copy.build_from_config(source.get_build_config())
        copy.trainable = source.trainable or any(id(layer) in new for layer in inner_layers(copy))
    for layer, is_trainable in new_layers:
        layer.trainable = is_trainable
    for source, copy in matched:
        _copy_state(source, copy)


def _matches(pair, parts):
    """`(layer, copy)` of a pair and of the layers inside, except those of the parts."""
    rests = []
    for layer, own_parts in zip(pair, parts, strict=True):
        others = {id(inner) for part in own_parts for inner in inner_layers(part)}
        rests.append([inner for inner in inner_layers(layer) if id(inner) not in others])
    if len(rests[0]) != len(rests[1]):
        # A layer in an attribute that was set from outside is not in the copy. It may lack state.
        rests = [[rest[0], *filter(_has_state, rest[1:])] for rest in rests]
    return _zipped(pair[0], *rests)


def _has_state(layer):
    return bool(_own_variables(layer)) or hasattr(layer, "save_assets")


def _copy_state(source, copy):
    own = [_own_variables(layer) for layer in (source, copy)]
    if len({frozenset(variable.name for variable in variables) for variables in own}) == 1:
        # `quantize` makes them in another order than `build` does.
        own = [sorted(variables, key=lambda variable: variable.name) for variables in own]
    variables = _zipped(source, *own)
    # Keras' own way to save a layer, which may keep more than variables.
    store = {}
    source.save_own_variables(store)
    copy.load_own_variables({k: np.array(ops.convert_to_numpy(v)) for k, v in store.items()})
    if hasattr(source, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            # A table that was not adapted yet cannot be loaded, and need not be.
            if _assets(source, f"{folder}/source") != _assets(copy, f"{folder}/copy"):
                copy.load_assets(f"{folder}/source")
    # Keras saves no random seeds, and merges adapters.
    for variable, variable_copy in variables:
        # By way of NumPy: on JAX the copy would share an array that training frees.
        variable_copy.assign(np.array(ops.convert_to_numpy(variable)))
        variable_copy.trainable = variable.trainable


def _assets(layer, folder):
    """The contents of the files that a layer writes into a new folder, by their names."""
    os.mkdir(folder)
    layer.save_assets(folder)
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def _own_variables(layer):
    """The variables of a layer without those of its layers."""
    parts = inner_layers(layer, include_self=False, recursive=False)
    others = {id(variable) for part in parts for variable in part.variables}
    return [variable for variable in layer.variables if id(variable) not in others]


def _zipped(source, ours, theirs):
    if len(ours) != len(theirs):
        raise ValueError(
            "A layer that is rebuilt from its config must have the same layers and variables: make "
            "them in its constructor or in `build`. "
            f"Received: layer {source.name!r} of class {source.__class__.__name__}"
        )
    return zip(ours, theirs, strict=True)
