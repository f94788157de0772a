"""Builds models of `keras.applications` with attention in them, and counts what it costs."""

import collections
import inspect
import os
import sys
import typing
from collections.abc import Callable

import keras

from keras_cbam._types import Attention, Where
from keras_cbam.attention import ATTENTION, snake_case
from keras_cbam.cost import cost_table
from keras_cbam.errors import WeightsError, at_least, near_names, number, require
from keras_cbam.files.weight_files import (
    count_h5_layers,
    downloading_weights,
    load_h5_weights,
    load_named_weights,
)
from keras_cbam.insertion.insert import insert_attention
from keras_cbam.insertion.sites import select_sites
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.models.building import image_shape

# What the preprocessing or the end of a classifier of ours would not fit.
_SET_BY_CLASSIFIER = (
    *("include_top", "pooling", "classes", "classifier_activation", "include_preprocessing"),
)


def application_names() -> list[str]:
    """The names of all models of the installed `keras.applications`."""
    return sorted(name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction))


def find_application(name: str) -> Callable[..., keras.Model]:
    """The function of `keras.applications` of that name, in any case of letters."""
    names = {one.lower(): one for one in application_names()}
    near = near_names(name, names.values())
    is_known = str(name).lower() in names
    require(is_known, f"Unknown model of keras.applications. {near}", f"name={name!r}")
    return getattr(keras.applications, names[str(name).lower()])


def preprocessing_of(name: str) -> Callable[[typing.Any], typing.Any]:
    """The function that turns pixels in [0, 255] to what an application takes."""
    return sys.modules[find_application(name).__module__].preprocess_input


def attention_backbone(
    name: str,
    attention: Attention = "cbam",
    where: Where = "auto",
    weights: str | os.PathLike | None = "imagenet",
    start_as_identity: bool = True,
    **application_kwargs: typing.Any,
) -> keras.Model:
    """A model of `keras.applications` without its classifier and with attention.

    The attention starts as an identity: with pretrained weights the features are those of the
    plain model until it is trained.

    Args:
        name: string, name in `keras.applications` in any case: `"ResNet50"` or `"resnet50"`.
        attention, where: see `insert_attention`, which has the same defaults; `attention=None` for
            the plain model.
        weights: `"imagenet"`, `None` (random), or a file: `.keras` (any model that has the
            backbone's layers), `.npz` keyed `<layer>/<index>`, or a `.weights.h5` of the
            application, plain or with attention at the same sites. Defaults to `"imagenet"`.
        start_as_identity: bool, whether the attention computes nothing until it is trained. This
            argument decides, except that a key in a config, what a callable returns, and a
            template's `True` are kept. Defaults to `True`.
        **application_kwargs: further arguments of the application, such as `input_shape` or
            `alpha`. `include_top` defaults to `False`.

    Returns:
        A Functional `keras.Model` from preprocessed images to features.

    Raises:
        ValueError: if the name is unknown (near names are suggested); see also `insert_attention`.
        WeightsError: if the weights file does not fit (the message says what differs), or the
            ImageNet weights cannot be downloaded.

    Example:

    >>> backbone = attention_backbone("ResNet50", weights=None, input_shape=(64, 64, 3))
    >>> backbone.output_shape
    (None, 2, 2, 2048)
    """
    application = find_application(name)
    file = weights if isinstance(weights, (str, os.PathLike)) and weights != "imagenet" else None
    is_right = weights in (None, "imagenet") or (file and os.path.isfile(file))
    message = '`weights` must be "imagenet", None or the path of a file.'
    require(is_right, message, f"weights={weights!r}")
    application_kwargs.setdefault("include_top", False)
    with downloading_weights():
        model = application(weights=None if file else weights, **application_kwargs)
    h5 = None if file is None or str(file).endswith((".keras", ".npz")) else file
    in_file = {}
    if h5:
        known = {snake_case(layer_class) for layer_class, _ in ATTENTION.values()}
        in_file = {kind: n for kind, n in count_h5_layers(h5).items() if kind in known}
        # Keras passes over the attention in the file.
        load_h5_weights(model, h5)
    if attention is not None:
        model = insert_attention(model, attention, where, start_as_identity)
    if attention is not None and h5 and in_file:
        layers = [layer for layer in model.layers if isinstance(layer, AttentionLayer)]
        found = dict(collections.Counter(snake_case(type(layer)) for layer in layers))
        if found != in_file:
            raise WeightsError(
                f"The weights file {str(file)!r} does not fit {model.name!r}: it has the "
                f"attention layers {in_file}, the model has {found}."
            )
        load_h5_weights(model, h5)
    if file and not h5:
        load_named_weights(model, file, may_lack=lambda layer: isinstance(layer, AttentionLayer))
    return model


def attention_classifier(
    name: str,
    num_classes: int,
    attention: Attention = "cbam",
    where: Where = "auto",
    weights: str | os.PathLike | None = "imagenet",
    input_shape: tuple[int, int, int] = (224, 224, 3),
    dropout: float = 0.2,
    start_as_identity: bool = True,
    **application_kwargs: typing.Any,
) -> keras.Model:
    """An image classifier: preprocessing, a backbone with attention, average pooling, a softmax.

    Args:
        name, attention, where, weights, start_as_identity: of the backbone, see
            `attention_backbone`, which has the same defaults.
        num_classes: int, at least 2.
        input_shape: tuple `(height, width, 3)`, or `(3, height, width)` where
            `keras.config.image_data_format()` is `"channels_first"`. Defaults to `(224, 224, 3)`.
        dropout: float in [0, 1), dropout rate before the last layer. Defaults to `0.2`.
        **application_kwargs: further arguments of the application, `alpha` for example.

    Returns:
        A Functional `keras.Model` from raw pixels in [0, 255], `(batch,) + input_shape`, to
        float32 class probabilities `(batch, num_classes)` under every dtype policy.

    Raises:
        ValueError: if an argument is outside its range, or one that the classifier sets itself
            (`include_top`, `pooling`, `include_preprocessing`); see also `attention_backbone`.

    Example:

    >>> model = attention_classifier("MobileNetV2", 5, weights=None, input_shape=(96, 96, 3))
    >>> model.output_shape
    (None, 5)
    """
    preprocess = preprocessing_of(name)
    at_least(2)("num_classes", num_classes)
    number(below=1)("dropout", dropout)
    for argument in application_kwargs.keys() & set(_SET_BY_CLASSIFIER):
        raise ValueError(
            f"`{argument}` is set by `attention_classifier`; use `attention_backbone` for a "
            f"model of your own. Received: {argument}={application_kwargs[argument]!r}"
        )
    application_kwargs["input_shape"] = input_shape
    backbone = attention_backbone(
        name, attention, where, weights, start_as_identity, **application_kwargs
    )
    inputs = keras.Input(input_shape, dtype="float32", name="pixels")
    x = backbone(preprocess(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="probabilities"
    )(x)
    return keras.Model(inputs, outputs, name=f"{backbone.name}_classifier")


def application_cost(
    name: str,
    attention: Attention = "cbam",
    where: Where = "auto",
    image_size: int | None = None,
    start_as_identity: bool = True,
) -> dict[str, typing.Any]:
    """What attention costs in a model of `keras.applications`, with its ImageNet classifier.

    Args:
        name, attention, where, start_as_identity: see `attention_backbone`, which has the same
            defaults.
        image_size: int, side of the square images in pixels. Defaults to `None`: that of the
            model's ImageNet weights.

    Returns:
        Dict: `"model"`, `"image_size"`, `"sites"` (list of names), `"plain"` and
        `"with_attention"`, each `{"parameters": int, "multiply_adds": int, "layers": list of
        LayerCost}`, see `keras_cbam.cost`.
    """
    shape = None if image_size is None else image_shape(image_size)
    application = find_application(name)
    model = application(weights=None, input_shape=shape)
    # MobileNetV3 takes images of any size; its weights are for this one.
    input_shape = tuple(size or 224 for size in model.input_shape[1:])
    sites, plain = [], _cost(model, input_shape)
    if attention is not None:
        sites = list(select_sites(model, where))
        model = insert_attention(model, attention, where, start_as_identity)
    return {
        "model": application.__name__,
        "image_size": input_shape[1],
        "sites": sites,
        "plain": plain,
        "with_attention": _cost(model, input_shape),
    }


def _cost(model, input_shape):
    rows = cost_table(model, input_shape)
    return {
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
        "layers": rows,
    }
