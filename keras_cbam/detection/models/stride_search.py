"""Which tensors of a network are the levels of a feature pyramid."""

import keras

from keras_cbam.insertion.flat import Source


def find_levels(calls, outputs, images, levels):
    """The last tensor of each stride, as a dict of `Source` by level: level 3 has the stride 8.

    The strides are those at a size that they divide, so they do not depend on the size that the
    model declares, if any. A tensor that everything after it is computed from is preferred: the
    output of a block to a tensor inside a branch of the next block. Where a stride has none, as in
    a U-Net, it is the last one. For calls and outputs see `flat_calls`.
    """
    height, width = (count * 2 ** max(levels) for count in (4, 5))
    sized = keras.KerasTensor((None, height, width, images.shape[3]), images.dtype)
    shapes, failures = _shapes(calls, sized)
    is_cut = _cuts(calls)
    used = {source for call in calls for source in call.inputs}.union(outputs)
    found = {}
    for level in range(1, max(levels) + 3):
        size = (height / 2**level, width / 2**level)
        sources = [s for s, shape in shapes.items() if shape[1:3] == size and s in used]
        cuts = [source for source in sources if is_cut[source.call]]
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


def _cuts(calls):
    """Whether all that follows a call is computed from its outputs only, for each call."""
    last_use = {}
    for index, call in enumerate(calls):
        for source in call.inputs:
            last_use[source.call] = index
    furthest, cuts = last_use.get(-1, -1), []
    for index in range(len(calls)):
        cuts.append(furthest <= index)
        furthest = max(furthest, last_use.get(index, -1))
    return cuts
