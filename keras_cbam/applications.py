"""Models of `keras.applications` with attention in them."""

import inspect
import numbers
import os

import keras

from keras_cbam.attention import near_names
from keras_cbam.insertion.insert import insert_attention
from keras_cbam.layers.attention_layer import positive_integer
from keras_cbam.weight_files import WeightsError, load_named_weights


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


def _load_weights_of_application(model, path):
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"The weights file {str(path)!r} does not fit {model.name!r}: {reason}"
        ) from error


def attention_backbone(
    name, attention="cbam", where="auto", weights="imagenet", **application_kwargs
):
    """A model of `keras.applications` without its classifier and with attention.

    The attention starts as an identity: with pretrained weights the features are those of the
    plain model until training changes them.

    Args:
        name: string, name in `keras.applications`, `"ResNet50"` for example.
        attention: see `insert_attention`; `None` for the plain model. Defaults to `"cbam"`.
        where: see `insert_attention`. Defaults to `"auto"`.
        weights: `"imagenet"`, `None` (random), or a file: `.keras` (any model that has the
            backbone's layers, attended or not), `.npz` keyed `<layer>/<index>`, or a
            `.weights.h5` of the plain application. Defaults to `"imagenet"`.
        **application_kwargs: further arguments of the application, `input_shape` or `alpha` for
            example. `include_top` defaults to `False`.

    Returns:
        A Functional `keras.Model` from preprocessed pictures to features.

    Raises:
        ValueError: if the name is unknown (near names are suggested); see also `insert_attention`.
        WeightsError: if the weights file does not fit; the message says what differs.

    Example:

    >>> backbone = attention_backbone("ResNet50", weights=None, input_shape=(64, 64, 3))
    >>> backbone.output_shape
    (None, 2, 2, 2048)
    """
    application = find_application(name)
    application_kwargs.setdefault("include_top", False)
    is_named = str(weights).endswith((".keras", ".npz"))
    if weights is not None and weights != "imagenet" and not os.path.isfile(weights):
        raise ValueError(
            '`weights` must be "imagenet", None or the path of a file. '
            f"Received: weights={weights!r}"
        )
    model = application(weights="imagenet" if weights == "imagenet" else None, **application_kwargs)
    if weights is not None and weights != "imagenet" and not is_named:
        _load_weights_of_application(model, weights)
    if attention is not None:
        model = insert_attention(model, attention=attention, where=where)
    if is_named:
        load_named_weights(model, weights)
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
    """An image classifier: preprocessing, an attended backbone, average pooling, a softmax.

    It takes raw pixels: the application's own preprocessing is part of the model.

    Args:
        name: string, name in `keras.applications`, `"ResNet50"` for example.
        num_classes: int, at least 2.
        attention: see `insert_attention`; `None` for a plain backbone. Defaults to `"cbam"`.
        where: see `insert_attention`. Defaults to `"auto"`.
        weights: of the backbone, see `attention_backbone`. Defaults to `"imagenet"`.
        input_shape: tuple `(height, width, 3)`, or `(3, height, width)` where
            `keras.config.image_data_format()` is `"channels_first"`. Defaults to `(224, 224, 3)`.
        dropout: float in [0, 1), dropout rate before the last layer. Defaults to `0.2`.
        **application_kwargs: further arguments of the application, `alpha` for example.

    Returns:
        A Functional `keras.Model` from pixels in [0, 255], `(batch,) + input_shape`, to float32
        class probabilities `(batch, num_classes)` under every dtype policy.

    Raises:
        ValueError: if the name is unknown (near names are suggested) or an argument is outside
            its range; see also `insert_attention`.

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
    preprocess_input = inspect.getmodule(application).preprocess_input
    inputs = keras.Input(input_shape, dtype="float32", name="pixels")
    x = backbone(preprocess_input(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="probabilities"
    )(x)
    return keras.Model(inputs, outputs, name=f"{backbone.name}_classifier")
