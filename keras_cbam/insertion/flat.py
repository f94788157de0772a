"""The calls of a Functional graph in one list, those of nested models among them."""

import inspect
import typing

import keras

from keras_cbam.insertion.graph import graph_nodes, is_searchable


class Source(typing.NamedTuple):
    """A tensor: the index of its call (-1: an input of the model), and which output of it."""

    call: int
    output: int


class Call(typing.NamedTuple):
    """One call of a layer or operation, of which `node` is Keras' record."""

    operation: keras.Operation
    node: typing.Any
    inputs: list  # of `Source`, one for each of the node's input tensors
    training: bool | None  # the argument of the nested model around it

    def arguments(self, values):
        """The call's `(args, kwargs)`, where `values` are `{Source: value}`."""
        pairs = zip(self.node.input_tensors, self.inputs, strict=True)
        args, kwargs = self.node.arguments.fill_in({id(t): values[source] for t, source in pairs})
        takes_training = "training" in inspect.signature(self.operation.call).parameters
        if self.training is not None and takes_training:
            kwargs = {**kwargs, "training": self.training}
        return args, kwargs


def flat_calls(model):
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
