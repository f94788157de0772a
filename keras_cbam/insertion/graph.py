"""Reads the graph of a Functional model: its calls, its layers, and choices among them.

A node is Keras' record of one call of a layer or an operation.
"""

import inspect
import re
from collections.abc import Container, Iterator
from typing import Any, NamedTuple

import keras

from keras_cbam._compat import inner_layers, node_of
from keras_cbam._types import Where
from keras_cbam.errors import known_names, near_names
from keras_cbam.insertion.backbones import library_class
from keras_cbam.layers.attention_layer import AttentionLayer


def is_functional(model: Any) -> bool:
    return isinstance(model, keras.Model) and isinstance(model, keras.Function)


def is_task(model: Any) -> bool:
    """Whether it is a Functional task of keras_cv or keras_hub: a backbone and a head."""
    return is_functional(model) and library_class(type(model), "Task") is not None


def is_searchable(model: Any) -> bool:
    return is_functional(model) or isinstance(model, keras.Sequential)


def searched_model(layer: Any) -> Any:
    """The model whose layers can be chosen: the layer itself, what it wraps, or its backbone."""
    if isinstance(layer, keras.layers.Wrapper):
        return searched_model(layer.layer)
    if is_task(layer):
        return searched_model(layer.backbone)
    return layer if is_searchable(layer) else None


def require_searchable(model: Any) -> None:
    """Raises ValueError unless `model` has a graph of layers that can be read."""
    if isinstance(model, str):
        reason = (
            "A name is not a model: `attention_backbone(name)` and `attention_classifier(name, "
            "num_classes)` take one."
        )
    elif not is_searchable(model):
        reason = (
            "The model must be Functional or Sequential: a subclassed model has no graph. Rebuild "
            "it as `keras.Model(inputs, outputs)`, where its layers are called one after the other "
            "on a `keras.Input`, or put attention into its `call` by hand."
        )
    elif not type(model).call.__module__.startswith("keras."):
        reason = (
            "A model whose class overrides `call` does more than its graph. Rebuild it as "
            "`keras.Model(inputs, outputs)`."
        )
    elif not model.built or not getattr(model, "inputs", None):
        reason = (
            "A Sequential model without an input shape has no graph yet: start it with a "
            "`keras.Input`, or call `build(input_shape)`."
        )
    else:
        return
    raise ValueError(f"{reason} Received: {model!r}")


def data_format(model: keras.Model) -> str | None:
    """The data format of a model's first layer that has one, or `None`."""
    formats = (getattr(layer, "data_format", None) for layer in inner_layers(model))
    return next(filter(None, formats), None)


def first_argument(operation: Any, args: tuple, kwargs: dict) -> Any:
    """What a call gives to the first parameter, by position or by name."""
    bound = inspect.signature(operation.call).bind(*args, **kwargs)
    return next(iter(bound.arguments.values()))


def graph_nodes(model: Any) -> list:
    """The calls that lead from the model's inputs to its outputs, each after the calls it needs."""
    inputs = {id(tensor) for tensor in model.inputs}
    ordered, stack = {}, [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, is_expanded = stack.pop()
        node = node_of(tensor)
        if is_expanded:
            ordered.setdefault(id(node), node)
        elif id(node) not in ordered:
            stack.append((tensor, True))
            if id(tensor) not in inputs:
                stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return list(ordered.values())


def layer_calls(model: Any, prefix: str = "") -> Iterator[tuple]:
    """Yields path (`<model>/<layer>` in nested models), node and data format of each layer call."""
    model = model.backbone if is_task(model) else model
    require_searchable(model)
    model_format = data_format(model)
    for node in graph_nodes(model):
        layer = node.operation
        if isinstance(layer, keras.Layer):
            path = f"{prefix}{layer.name}"
            if searched_model(layer):
                yield from layer_calls(searched_model(layer), prefix=f"{path}/")
            yield path, node, model_format


def is_possible_site(node: Any, model_format: str | None) -> bool:
    """Whether attention can refine the output of a call."""
    layer, output = node.operation, node.outputs[0]
    layer_format = getattr(layer, "data_format", None) or model_format
    return (
        isinstance(layer, keras.Layer)
        and not isinstance(layer, (keras.layers.InputLayer, AttentionLayer))
        and len(node.outputs) == 1
        and 3 <= len(output.shape) <= 5
        and output.shape[1 if layer_format == "channels_first" else -1] is not None
        and "float" in keras.backend.standardize_dtype(output.dtype)
    )


def choose(possible: dict, where: Where, argument: str = "where") -> dict[str, Any]:
    """The layers of `possible`, `{path: layer}`, that `where` chooses; `argument` is its name."""
    if isinstance(where, str):
        try:
            pattern = re.compile(where)
        except re.error as error:
            raise ValueError(
                f"`{argument}` is not a valid regular expression: {error}. "
                f"Received: {argument}={where!r}"
            ) from error
        tests = {where: lambda *names: any(map(pattern.fullmatch, names))}
    elif isinstance(where, (list, tuple, set, frozenset)):
        tests = {name: lambda *names, name=name: name in names for name in where}
    elif callable(where):
        tests = {None: lambda path, name: where(possible[path])}
    else:
        automatic = '"auto", ' if argument == "where" else ""
        raise ValueError(
            f"`{argument}` must be {automatic}a regular expression, a collection of names or a "
            f"predicate. Received: {argument}={where!r}"
        )
    chosen = {}
    for wanted, test in (tests or {None: lambda *names: False}).items():
        found = {path: layer for path, layer in possible.items() if test(path, layer.name)}
        if not found:
            names = list(dict.fromkeys([*possible, *(one.name for one in possible.values())]))
            by_name = "" if wanted is None else f" {wanted!r} by its whole name or path"
            hint = known_names(names, 10) if wanted is None else near_names(wanted, names, 10)
            raise ValueError(
                f"None of the {len(possible)} layers that `{argument}` could choose matches"
                f"{by_name}. {hint} Received: {argument}={where!r}"
            )
        chosen.update(found)
    return chosen


def unused(name: str, taken: Container[str]) -> str:
    """The first of the name, `<name>_1`, `<name>_2`, ... that is not in `taken`."""
    number, unique = 0, name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique


class Source(NamedTuple):
    """A tensor: the index of its call (-1: an input of the model), and which output of it."""

    call: int
    output: int


class Call(NamedTuple):
    """One call of a layer or operation, in a model or in one nested in it."""

    operation: keras.Operation
    node: Any
    inputs: list  # of `Source`, one for each of the node's input tensors
    training: bool | None  # the argument of the nested model around it

    def arguments(self, values: dict) -> tuple[tuple, dict]:
        """The call's `(args, kwargs)`, where `values` are `{Source: value}`."""
        pairs = zip(self.node.input_tensors, self.inputs, strict=True)
        args, kwargs = self.node.arguments.fill_in({id(t): values[source] for t, source in pairs})
        takes_training = "training" in inspect.signature(self.operation.call).parameters
        if self.training is not None and takes_training:
            kwargs = {**kwargs, "training": self.training}
        return args, kwargs


def flat_calls(model: Any) -> tuple[list[Call], list[Source]]:
    """The `Call`s of a model and of those nested in it, and the `Source`s of its outputs."""
    calls = []
    sources = {id(tensor): Source(-1, index) for index, tensor in enumerate(model.inputs)}
    _append_calls(model, sources, None, calls)
    return calls, [sources[id(tensor)] for tensor in model.outputs]


def _append_calls(model, sources, training, calls):
    """Appends the calls, and adds their outputs to `sources`, `{id of tensor: Source}`."""
    for node in graph_nodes(model):
        operation = node.operation
        if not node.input_tensors:
            continue
        inputs = [sources[id(tensor)] for tensor in node.input_tensors]
        if is_searchable(operation) and len(inputs) == len(operation.inputs) == 1:
            inner = {id(operation.inputs[0]): inputs[0]}
            own = node.arguments.kwargs.get("training")
            _append_calls(operation, inner, own if training is None else training, calls)
            outputs = [inner[id(tensor)] for tensor in operation.outputs]
        else:
            calls.append(Call(operation, node, inputs, training))
            outputs = [Source(len(calls) - 1, index) for index in range(len(node.outputs))]
        for tensor, output in zip(node.outputs, outputs, strict=True):
            sources[id(tensor)] = output
