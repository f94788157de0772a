"""Keeps backbones of keras_cv and keras_hub what they are when their graph is another one.

Their constructors make the graph, and their configs rebuild it without attention. A class that is
derived from theirs takes any graph, and saves it.
"""

import functools
import importlib
import inspect
from typing import Any

import keras

from keras_cbam._compat import inner_layers, node_of

LIBRARIES = ("keras_cv", "keras_hub")


@keras.saving.register_keras_serializable(package="keras_cbam")
class GraphBackbone:
    """Makes a class of backbones save and load its objects as their graph.

    `backbone_from_graph` derives one class from this and each class of backbones, all registered
    under one name, so that neither library must be imported.
    """

    kind: Any = None

    def __init__(self: Any, graph: Any, arguments: dict, dtype: Any):
        base, levels = library_class(self.kind), graph.output["levels"]
        base.__init__(self, inputs=graph.input, outputs=graph.output["outputs"], name=graph.name)
        self.dtype_policy = keras.dtype_policies.get(dtype)
        for name, value in arguments.items():
            setattr(self, name, value)
        if hasattr(self.kind, "pyramid_level_inputs"):
            self.pyramid_level_inputs = {
                level: node_of(tensor).operation.name for level, tensor in levels.items()
            }
        if levels:
            # The detectors of keras_hub find the levels of every backbone by these.
            self.pyramid_outputs = levels

    def get_config(self: Any) -> dict:
        # The graph's own flag would overwrite those of its layers.
        graph = {k: v for k, v in backbone_graph(self).get_config().items() if k != "trainable"}
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "kind": keras.saving.get_registered_name(self.kind),
            "graph": graph,
            "arguments": _kept(self, self.kind),
        }

    @classmethod
    def from_config(cls, config: dict) -> Any:
        kind = _registered_kind(config["kind"])
        # They become attributes: a file must not replace a method by one.
        foreign = sorted(set(config["arguments"]).difference(_argument_names(kind)))
        if foreign:
            raise ValueError(
                f"The arguments of this backbone must be those of {kind.__name__}. "
                f"Received: {foreign}"
            )
        graph = keras.Model.from_config(_with_tuples(config["graph"]))
        backbone = backbone_from_graph(kind, graph, config["arguments"], config["dtype"])
        flags = [(layer, layer.trainable) for layer in inner_layers(backbone, include_self=False)]
        backbone.trainable = config["trainable"]
        for layer, is_trainable in flags:
            layer.trainable = is_trainable
        backbone.name = config["name"]
        return backbone


def library_class(kind: type, name: str = "Backbone") -> Any:
    """The class `Backbone` or `Task` of keras_cv or keras_hub that a class derives from, if any."""
    for base in kind.__mro__:
        if base.__name__ == name and base.__module__.partition(".")[0] in LIBRARIES:
            return base
    return None


def backbone_graph(backbone: Any) -> keras.Model:
    """A plain model of the backbone's layers: `{"outputs": its outputs, "levels": by name}`."""
    names = getattr(backbone, "pyramid_level_inputs", {})
    levels = {level: backbone.get_layer(name).output for level, name in names.items()}
    levels = levels or dict(getattr(backbone, "pyramid_outputs", {}))
    outputs = {"outputs": backbone.output, "levels": levels}
    return keras.Model(backbone.input, outputs, name=backbone.name)


def backbone_from_graph(kind: type, graph: keras.Model, arguments: dict, dtype: Any) -> Any:
    """A backbone of the class `kind` and of `GraphBackbone`; for `graph` see `backbone_graph`."""
    return _graph_class(kind)(graph, arguments, dtype)


def copied_backbone(backbone: Any, graph: keras.Model) -> Any:
    """The backbone with another graph."""
    kind = backbone.kind if isinstance(backbone, GraphBackbone) else type(backbone)
    return backbone_from_graph(kind, graph, _kept(backbone, kind), backbone.dtype_policy)


@functools.cache
def _graph_class(kind):
    attributes = {"kind": kind, "__module__": __name__, "__doc__": kind.__doc__}
    made = type(GraphBackbone.__name__, (GraphBackbone, kind), attributes)
    return keras.saving.register_keras_serializable(package="keras_cbam")(made)


def _registered_kind(name):
    package, _, class_name = name.partition(">")
    library = package.partition(".")[0]
    if library in LIBRARIES:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise ImportError(
                f"This backbone is a {class_name} of {library}, which cannot be imported: {error}"
            ) from error
    kind = keras.saving.get_registered_object(name)
    if not isinstance(kind, type) or library_class(kind) is None:
        raise ValueError(
            "The class of this backbone is not known: import the module that registers it by "
            f"`keras.saving.register_keras_serializable`. Received: kind={name!r}"
        )
    return kind


def _with_tuples(config, is_shape=False):
    """A config from a file, which has lists where layers were built with tuples."""
    if isinstance(config, dict):
        return {k: _with_tuples(v, is_shape or k == "build_config") for k, v in config.items()}
    if not isinstance(config, (list, tuple)):
        return config
    items = [_with_tuples(item, is_shape) for item in config]
    return tuple(items) if is_shape and not any(isinstance(i, tuple) for i in items) else items


def _argument_names(kind):
    return inspect.signature(kind.__init__).parameters


def _kept(backbone, kind):
    """The constructor's arguments that are plain attributes; layers belong to another graph."""
    names = _argument_names(kind)
    return {k: v for k, v in vars(backbone).items() if k in names and is_plain(v)}


def is_plain(value: object) -> bool:
    """Whether it is a number, a string, a bool, `None`, or a list or dict of such."""
    if isinstance(value, (list, tuple, dict)):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return value is None or isinstance(value, (bool, int, float, str))
