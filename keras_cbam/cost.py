"""Counts the parameters and multiply-adds of a model from its graph."""

import dataclasses
import inspect
import math
import typing

import keras
from keras import layers

from keras_cbam._compat import inner_layers, node_of, own_trainable_variables, run_through_graph
from keras_cbam.errors import require
from keras_cbam.insertion.graph import data_format, is_searchable, require_searchable

_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED, layers.DepthwiseConv1D),
    *(layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D),
)
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
# Weights with several axes that are looked up, or multiply element by element.
_WITHOUT_PRODUCTS = (
    *(layers.BatchNormalization, layers.Embedding, layers.LayerNormalization),
    *(layers.Normalization, layers.PReLU),
)
# Products without weights of their own, as layers and as operations of `keras.ops`.
_UNKNOWN = {
    *("AdditiveAttention", "Attention", "Conv", "ConvTranspose", "DepthwiseConv"),
    *("DotProductAttention", "Inner", "Kron", "Outer", "SeparableConv", "Tensordot", "Vdot"),
}


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One call of a layer.

    Attributes:
        name: string, `<model>/<layer>` in nested models.
        class_name: string.
        output_shape: tuple without the batch; a list of tuples if there are several outputs.
        parameters: int; 0 for further calls of a shared layer.
        multiply_adds: int, for one example.
    """

    name: str
    class_name: str
    output_shape: tuple[int, ...] | list[tuple[int, ...]]
    parameters: int
    multiply_adds: int


def _parameters(layer):
    # Those of frozen layers count too, which `trainable_weights` would leave out.
    return {
        id(weight): math.prod(weight.shape)
        for inner in inner_layers(layer)
        for weight in own_trainable_variables(inner)
    }


def count_parameters(model: keras.layers.Layer) -> int:
    """The number of parameters that training can change, of a built model or layer: an int.

    Frozen layers count; moving statistics, which `model.count_params()` counts, do not.

    Example:

    >>> count_parameters(keras.applications.ResNet50(weights=None))
    25583592
    """
    return sum(_parameters(model).values())


def count_multiply_adds(model: keras.Model, input_shape: typing.Any = None) -> int:
    """The multiplications with addition in one example's forward pass: an int.

    Convolutions, matrix products and `einsum` count (half of their floating-point operations);
    biases, normalization, pooling and elementwise products do not. For a convolution these are

    ```
    output height * output width * kernel height * kernel width * input channels / groups * filters
    ```

    Args:
        model: Functional or built Sequential `keras.Model`; nested models are counted too.
        input_shape: tuple without the batch, or a structure of tuples like the model's inputs,
            for models with unknown sizes or to count at others. Defaults to `None`: its own.

    Raises:
        ValueError: see `cost_table`.

    Example:

    >>> count_multiply_adds(keras.applications.MobileNetV2(weights=None))
    300774272
    """
    return sum(row.multiply_adds for row in cost_table(model, input_shape))


def cost_table(model: keras.Model, input_shape: typing.Any = None) -> list[LayerCost]:
    """Parameters and multiply-adds of each call of a layer or operation, in the graph's order.

    Arguments are those of `count_multiply_adds`.

    Returns:
        List of `LayerCost`.

    Raises:
        ValueError: if the model is subclassed, a size is unknown, or a layer holds a kernel and
            its products are not known: give its class a method
            `multiply_adds(input_shape) -> int`, for shapes without the batch.

    Example:

    >>> model = keras.applications.MobileNetV2(weights=None)
    >>> max(cost_table(model), key=lambda row: row.multiply_adds).name
    'Conv_1'
    """
    require_searchable(model)
    rows = []
    _walk(model, _inputs(model, input_shape), "", rows, set())
    return rows


def _inputs(model, input_shape):
    """The inputs of the model, of a batch of one and of the given sizes."""
    own_shapes = shapes = [tensor.shape[1:] for tensor in model.inputs]
    if input_shape is not None:
        shapes = []
        keras.tree.map_shape_structure(shapes.append, input_shape)
    channels = 0 if data_format(model) == "channels_first" else -1

    def fits(shape, own):
        if not isinstance(shape, (tuple, list)) or len(shape) != len(own) or None in shape:
            return False
        return not own or own[channels] in (None, shape[channels])

    require(
        len(shapes) == len(own_shapes) and all(map(fits, shapes, own_shapes)),
        "`input_shape` must give every size of the inputs except the batch, with the channels of "
        f"the model, whose inputs are {own_shapes}.",
        f"input_shape={input_shape!r}",
    )
    return [keras.KerasTensor((1, *s), dtype=t.dtype) for t, s in zip(model.inputs, shapes)]


def _walk(model, inputs, prefix, rows, seen):
    """Runs shapes through the graph of a model and notes the cost of every call."""

    def counted(operation):
        def call(*arguments, **options):
            path = prefix + operation.name
            if not arguments:
                # All are given by name: the inputs are the first parameter.
                first = next(iter(inspect.signature(operation.call).parameters))
                arguments = (options.pop(first),)
            tensors = keras.tree.flatten((arguments, options))
            # Constants are operands too.
            shapes = [tuple(t.shape) for t in tensors if hasattr(t, "shape")]
            if is_searchable(operation):
                inputs = _inner_inputs(operation, arguments[0])
                return _walk(operation, inputs, f"{path}/", rows, seen)
            outputs = operation.compute_output_spec(*arguments, **options)
            weights = _parameters(operation) if isinstance(operation, layers.Layer) else {}
            new = sum(size for key, size in weights.items() if key not in seen)
            seen.update(weights)
            output_shapes = [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(outputs)]
            rows.append(
                LayerCost(
                    path,
                    operation.__class__.__name__,
                    output_shapes[0] if len(output_shapes) == 1 else output_shapes,
                    new,
                    _multiply_adds(operation, path, shapes, (1, *output_shapes[0])),
                )
            )
            return outputs

        return call

    if isinstance(model, keras.Sequential):
        (outputs,) = inputs
        for layer in model.layers:
            outputs = counted(layer)(outputs)
        return outputs
    return run_through_graph(model, inputs, counted)


def _inner_inputs(model, given):
    """The tensors that a nested model is called with, in the order of its inputs."""
    if isinstance(given, dict):
        names = [node_of(tensor).operation.name for tensor in model.inputs]
        if set(names) <= given.keys():
            return [given[name] for name in names]
    return keras.tree.flatten(given)


def _multiply_adds(operation, path, inputs, output):
    """The multiply-adds of one call, for shapes with a batch of 1."""
    kind = operation.__class__.__name__
    if hasattr(operation, "multiply_adds"):
        return operation.multiply_adds(inputs[0][1:])
    if isinstance(operation, _CONVOLUTIONS):
        # A kernel is at each position of the output, or of the input that it spreads.
        shape = inputs[0] if isinstance(operation, _TRANSPOSED) else output
        is_first = operation.data_format == "channels_first"
        kernels = [getattr(operation, name, None) for name in _KERNELS]
        sizes = [math.prod(kernel.shape) for kernel in kernels if kernel is not None]
        return math.prod(shape[2:] if is_first else shape[1:-1]) * sum(sizes)
    if isinstance(operation, layers.Dense):
        return math.prod(output) * inputs[0][-1]
    if isinstance(operation, layers.EinsumDense):
        kernel, *_ = operation.weights
        return _einsum(operation.equation, [inputs[0], kernel.shape])
    if kind == "Einsum":
        return _einsum(operation.subscripts, inputs)
    if kind in ("Matmul", "Dot"):
        axes = operation.axes if isinstance(operation, layers.Dot) else -1
        return math.prod(output) * inputs[0][axes if isinstance(axes, int) else axes[0]]
    has_kernel = any(len(weight.shape) > 1 for weight in getattr(operation, "weights", []))
    if kind in _UNKNOWN or (has_kernel and not isinstance(operation, _WITHOUT_PRODUCTS)):
        raise ValueError(
            f"The multiply-adds of {path!r} are not known. Give its class, or a subclass of it, a "
            f"method `multiply_adds(input_shape) -> int`. Received: a layer of class {kind}"
        )
    return 0


def _einsum(equation, shapes):
    """The product of the sizes of all indices, an ellipsis counting as the axes it stands for."""
    sizes = {}
    for term, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), shapes):
        before, ellipsis, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after)
        names = [*before, *(f"...{i}" for i in range(hidden if ellipsis else 0)), *after]
        sizes.update(zip(names, shape, strict=True))
    return math.prod(sizes.values())
