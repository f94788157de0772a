"""Models of `keras.applications` with attention in them."""

import collections
import inspect
import numbers
import os
import re

import h5py
import keras

from keras_cbam.attention import ATTENTION, snake_case
from keras_cbam.cost import cost_table
from keras_cbam.errors import LONGEST_REASON, WeightsError, first_line, near_names, positive_integer
from keras_cbam.files.model_files import check_h5
from keras_cbam.files.weight_files import load_named_weights
from keras_cbam.insertion.insert import insert_attention
from keras_cbam.insertion.sites import select_sites
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.models.building import image_shape


def application_names():
    """The names of all models of the installed `keras.applications`."""
    return sorted(name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction))


def find_application(name):
    """The function of `keras.applications` of that name; ValueError suggests near names."""
    if name not in application_names():
        raise ValueError(
            f"Unknown model of keras.applications. {near_names(name, application_names())} "
            f"Received: name={name!r}"
        )
    return getattr(keras.applications, name)


def _attention_in_h5(path):
    """The number of attention layers in a `.weights.h5` file, by the name of their class."""
    try:
        check_h5(path, os.path.getsize(path))
        with h5py.File(path) as file:
            names = [re.sub(r"_\d+$", "", name) for name in file.get("layers", ())]
    except Exception as error:
        # A damaged file fails in any part of h5py, with errors of its own.
        raise WeightsError(
            f"The weights file {str(path)!r} is not an HDF5 file of weights: {first_line(error)}"
        ) from error
    known = {snake_case(layer_class) for layer_class, _ in ATTENTION.values()}
    return collections.Counter(name for name in names if name in known)


def _load_h5(model, path):
    try:
        model.load_weights(path)
    except Exception as error:
        # Of many kinds, as above.
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise WeightsError(
            f"The weights file {str(path)!r} does not fit {model.name!r}: {reason}"
        ) from error


def attention_backbone(
    name, attention="cbam", where="auto", weights="imagenet", **application_kwargs
):
    """A model of `keras.applications` without its classifier and with attention.

    The attention starts as an identity: with pretrained weights the features are those of the
    plain model until it is trained.

    Args:
        name: string, name in `keras.applications`, `"ResNet50"` for example.
        attention, where: see `insert_attention`, which has the same defaults; `attention=None` for
            the plain model.
        weights: `"imagenet"`, `None` (random), or a file: `.keras` (any model that has the
            backbone's layers), `.npz` keyed `<layer>/<index>`, or a `.weights.h5` of the
            application, plain or with attention at the same sites. Defaults to `"imagenet"`.
        **application_kwargs: further arguments of the application, such as `input_shape` or
            `alpha`. `include_top` defaults to `False`.

    Returns:
        A Functional `keras.Model` from preprocessed images to features.

    Raises:
        ValueError: if the name is unknown (near names are suggested); see also `insert_attention`.
        WeightsError: if the weights file does not fit; the message says what differs.

    Example:

    >>> backbone = attention_backbone("ResNet50", weights=None, input_shape=(64, 64, 3))
    >>> backbone.output_shape
    (None, 2, 2, 2048)
    """
    application = find_application(name)
    is_file = weights is not None and weights != "imagenet"
    if is_file and not os.path.isfile(weights):
        raise ValueError(
            '`weights` must be "imagenet", None or the path of a file. '
            f"Received: weights={weights!r}"
        )
    application_kwargs.setdefault("include_top", False)
    model = application(weights=None if is_file else weights, **application_kwargs)
    is_h5 = is_file and not str(weights).endswith((".keras", ".npz"))
    in_file = _attention_in_h5(weights) if is_h5 else {}
    if is_h5:
        _load_h5(model, weights)
    if attention is not None:
        model = insert_attention(model, attention=attention, where=where)
    if attention is not None and in_file:
        # Keras has loaded the file into the plain model without the attention in it.
        layers = [layer for layer in model.layers if isinstance(layer, AttentionLayer)]
        found = collections.Counter(snake_case(type(layer)) for layer in layers)
        if found != in_file:
            raise WeightsError(
                f"The weights file {str(weights)!r} does not fit {model.name!r}: it has the "
                f"attention layers {dict(in_file)}, the model has {dict(found)}."
            )
        _load_h5(model, weights)
    if is_file and not is_h5:
        load_named_weights(model, weights, may_lack=lambda layer: isinstance(layer, AttentionLayer))
    return model


def attention_classifier(
    name,
    num_classes,
    attention="cbam",
    where="auto",
    weights="imagenet",
    input_shape=(224, 224, 3),
    dropout=0.2,
    **application_kwargs,
):
    """An image classifier: preprocessing, a backbone with attention, average pooling, a softmax.

    Args:
        name, attention, where, weights: of the backbone, see `attention_backbone`, which has the
            same defaults.
        num_classes: int, at least 2.
        input_shape: tuple `(height, width, 3)`, or `(3, height, width)` where
            `keras.config.image_data_format()` is `"channels_first"`. Defaults to `(224, 224, 3)`.
        dropout: float in [0, 1), dropout rate before the last layer. Defaults to `0.2`.
        **application_kwargs: further arguments of the application, `alpha` for example.

    Returns:
        A Functional `keras.Model` from raw pixels in [0, 255], `(batch,) + input_shape`, to
        float32 class probabilities `(batch, num_classes)` under every dtype policy.

    Raises:
        ValueError: if an argument is outside its range; see also `attention_backbone`.

    Example:

    >>> model = attention_classifier("MobileNetV2", 5, weights=None, input_shape=(96, 96, 3))
    >>> model.output_shape
    (None, 5)
    """
    application = find_application(name)
    if positive_integer("num_classes", num_classes) < 2:
        raise ValueError(f"`num_classes` must be at least 2. Received: num_classes={num_classes!r}")
    if not isinstance(dropout, numbers.Real) or not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: dropout={dropout!r}")
    for argument in ("include_top", "pooling", "classes", "classifier_activation"):
        if argument in application_kwargs:
            raise ValueError(
                f"`{argument}` is set by `attention_classifier`; use `attention_backbone` for a "
                f"model of your own. Received: {argument}={application_kwargs[argument]!r}"
            )
    backbone = attention_backbone(
        name, attention, where, weights, input_shape=input_shape, **application_kwargs
    )
    inputs = keras.Input(input_shape, dtype="float32", name="pixels")
    x = backbone(inspect.getmodule(application).preprocess_input(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="probabilities"
    )(x)
    return keras.Model(inputs, outputs, name=f"{backbone.name}_classifier")


def application_cost(name, attention="cbam", where="auto", image_size=None):
    """What attention costs in a model of `keras.applications`, with its ImageNet classifier.

    Args:
        name, attention, where: see `attention_backbone`, which has the same defaults.
        image_size: int, side of the square images in pixels. Defaults to `None`: that of the
            model's ImageNet weights.

    Returns:
        Dict: `"model"`, `"image_size"`, `"sites"` (list of names), `"plain"` and `"attended"`, each
        `{"parameters": int, "multiply_adds": int, "layers": list of LayerCost}`, see
        `keras_cbam.cost`.
    """
    shape = None if image_size is None else image_shape(image_size)
    model = find_application(name)(weights=None, input_shape=shape)
    # MobileNetV3 takes images of any size; its weights are for this one.
    input_shape = tuple(size or 224 for size in model.input_shape[1:])
    return {
        "model": name,
        "image_size": input_shape[1],
        "sites": list(select_sites(model, where)),
        "plain": _cost(model, input_shape),
        "attended": _cost(insert_attention(model, attention, where), input_shape),
    }


def _cost(model, input_shape):
    rows = cost_table(model, input_shape)
    return {
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
        "layers": rows,
    }
