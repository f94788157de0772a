"""A feature pyramid for detectors of keras_hub, keras_cv and ours, from any Functional network."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_cbam import errors
from keras_cbam.errors import one_of, require
from keras_cbam.insertion.backbones import backbone_from_graph
from keras_cbam.insertion.copying import Copier
from keras_cbam.insertion.graph import Source, data_format, flat_calls, require_searchable, unused


def detection_backbone(
    model: keras.Model, levels: Sequence[int] = (3, 4, 5), library: str = "keras_hub"
) -> Any:
    """Copies a network, with attention or without, as a backbone for detectors.

    Level `n` of the feature pyramid, `"Pn"`, is the last tensor whose height and width are the
    images' divided by `2**n`: after the attention, where that is last. If all the rest of the
    network is computed from one tensor of a stride, it is the last such.

    What no level needs, as the classifier, is left out; nested models are opened. The given model
    is untouched and shares no variable with the backbone. Weights, trainable flags, dtype policies
    and, where they are unique, names are kept. The backbone takes what the model takes.

    `RetinaNetObjectDetector` of keras_hub and `RetinaNet` of keras_cv need the levels 3, 4 and 5,
    and images of multiples of 32 pixels.

    Args:
        model: Functional or built Sequential `keras.Model` with one input `(batch, height, width,
            channels)`; height and width may be `None`.
        levels: sequence of int, at least 1. Defaults to `(3, 4, 5)`.
        library: `"keras_hub"` or `"keras_cv"`, for whose detectors it is; ours take both. The
            latter needs `pip install keras_cbam[keras-cv]`. Defaults to `"keras_hub"`.

    Returns:
        A `keras_hub.models.FeaturePyramidBackbone` whose `pyramid_outputs` are `{"P3": tensor,
        ...}`, or a `keras_cv.models.Backbone` with `pyramid_level_inputs` `{"P3": layer name,
        ...}`. Its output is the highest level, or a dict of all if that does not need the others
        (U-Net).

    Raises:
        ValueError: if the model is subclassed, of other inputs, channels-first or lacks a level.
        ImportError: if the library is not installed; it names the extra.

    Example:

    >>> model = attention_backbone("ResNet50", weights=None, input_shape=(256, 256, 3))
    >>> detection_backbone(model).pyramid_outputs["P5"].shape
    (None, 8, 8, 2048)
    """
    is_list = isinstance(levels, (list, tuple)) and levels
    if not is_list or not all(type(n) is int and n > 0 and levels.count(n) == 1 for n in levels):
        raise ValueError(
            f"`levels` must be a list of different int of at least 1. Received: levels={levels!r}"
        )
    require_searchable(model)
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    require(
        len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][3] is not None,
        "The model must have one input of shape (batch, height, width, channels).",
        f"a model with the input shapes {shapes}",
    )
    require(
        data_format(model) != "channels_first",
        "Detectors take images with their channels last. Build the model "
        'with `keras.config.set_image_data_format("channels_last")`.',
        f"model {model.name!r} with data_format='channels_first'",
    )
    calls, outputs = flat_calls(model)
    found = _find_levels(calls, outputs, model.inputs[0], sorted(levels))
    return backbone_of_graph(_copy(model, calls, found), model.dtype_policy, library)


def feature_levels(backbone: Any) -> dict[int, Any]:
    """`{3: tensor, ...}`: the pyramid of a backbone of keras_hub or keras_cv, the finest first."""
    outputs = getattr(backbone, "pyramid_outputs", None)
    if not outputs:
        names = getattr(backbone, "pyramid_level_inputs", {})
        outputs = {level: backbone.get_layer(name).output for level, name in names.items()}
    return {level: outputs[f"P{level}"] for level in sorted(int(name[1:]) for name in outputs)}


def backbone_of_graph(graph: keras.Model, dtype: Any, library: str = "keras_hub") -> Any:
    """A backbone of a library; for `graph` see `insertion.backbones.backbone_graph`."""
    kinds = {
        "keras_hub": ("FeaturePyramidBackbone", "detection"),
        "keras_cv": ("Backbone", "keras-cv"),
    }
    one_of(*kinds)("library", library)
    kind, extra = kinds[library]
    return backbone_from_graph(
        getattr(errors.library(library, extra).models, kind), graph, {}, dtype
    )


def _copy(model, calls, found):
    """A plain model of copied layers, see `backbone_of_graph`: each level has a layer `"Pn"`."""
    pixels = model.inputs[0]
    inputs = keras.Input(batch_shape=pixels.shape, dtype=pixels.dtype, name=pixels.name)
    values, copier, taken = {Source(-1, 0): inputs}, Copier(), {pixels.name}

    def named(name):
        name = unused(name, taken)
        taken.add(name)
        return name

    names = {source: f"P{level}" for level, source in found.items()}
    for index in _needed(calls, names):
        call = calls[index]
        is_new = id(call.operation) not in copier.pairs
        layer = copier.copy_layer(call.operation)
        if is_new:
            layer.name = named(layer.name)
        args, kwargs = call.arguments(values)
        for output, tensor in enumerate(keras.tree.flatten(layer(*args, **kwargs))):
            source = Source(index, output)
            if source in names:
                # keras_cv finds a level by the name of a layer with one output.
                dtype = keras.backend.standardize_dtype(tensor.dtype)
                tensor = keras.layers.Identity(name=named(names[source]), dtype=dtype)(tensor)
            values[source] = tensor
    copier.carry_over()
    levels = {name: values[source] for source, name in names.items()}
    highest = found[max(found)]
    on_the_way = {source for index in _needed(calls, [highest]) for source in calls[index].inputs}
    outputs = values[highest] if names.keys() <= on_the_way | {highest} else levels
    return keras.Model(inputs, {"outputs": outputs, "levels": levels}, name=model.name)


def _needed(calls, sources):
    """The indices of the calls that lead to the sources, in order."""
    needed, waiting = set(), [source.call for source in sources]
    while waiting:
        index = waiting.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            waiting.extend(source.call for source in calls[index].inputs)
    return sorted(needed)


def _find_levels(calls, outputs, images, levels):
    """`{level: Source}`: the last tensor of a stride, if there is one that all after it needs."""
    # The strides divide this size, whatever the model declares.
    height, width = (count * 2 ** max(levels) for count in (4, 5))
    sized = keras.KerasTensor((None, height, width, images.shape[3]), images.dtype)
    shapes, failures = _shapes(calls, sized)
    used = {source for call in calls for source in call.inputs}.union(outputs)
    # The first call of which each call takes an output.
    first = [min((s.call for s in call.inputs), default=i) for i, call in enumerate(calls)]
    found = {}
    for level in range(1, max(levels) + 3):
        size = (height / 2**level, width / 2**level)
        sources = [s for s, shape in shapes.items() if shape[1:3] == size and s in used]
        # The output of a block, not of a branch in the next one: what follows takes nothing before.
        cuts = [s for s in sources if min(first[s.call + 1 :], default=s.call) >= s.call]
        if sources:
            found[level] = (cuts or sources)[-1]
    missing = [level for level in levels if level not in found]
    if missing:
        there = ", ".join(f"{level} (stride {2**level})" for level in found) or "none"
        failed = " Layers that cannot take images of that size, and what follows them, do not "
        failed = f"{failed}count; the first is {failures[0]}." if failures else ""
        raise ValueError(
            f"The model has no tensor of stride {2 ** missing[0]} for level {missing[0]}: at "
            f"images of {height}x{width} it would be {height >> missing[0]}x"
            f"{width >> missing[0]}. It has the levels {there}.{failed} "
            f"Received: levels={tuple(levels)!r}"
        )
    return {level: found[level] for level in levels}


def _shapes(calls, images):
    """`{Source: shape}` of the tensors with height, width and channels; what failed, as text."""
    specs, shapes, failures = {Source(-1, 0): images}, {}, []
    for index, call in enumerate(calls):
        if any(source not in specs for source in call.inputs):
            continue
        args, kwargs = call.arguments(specs)
        try:
            outputs = keras.tree.flatten(call.operation.compute_output_spec(*args, **kwargs))
        except Exception as error:
            # Of many kinds: a layer made for one size, `Reshape` for example, or a Dense after it.
            failures.append(f"{call.operation.name!r}: {str(error).strip().splitlines()[0]}")
            continue
        for output, spec in enumerate(outputs):
            specs[Source(index, output)] = spec
            if len(spec.shape) == 4 and "float" in keras.backend.standardize_dtype(spec.dtype):
                shapes[Source(index, output)] = tuple(spec.shape)
    return shapes, failures
