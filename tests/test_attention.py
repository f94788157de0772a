import functools
import re

import keras
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, ConvolutionControl, SpatialAttention
from keras_cbam.attention import attention_template, layer_for_site


@pytest.mark.parametrize(
    ("attention", "layer_class", "name", "pooling"),
    [
        ("cbam", CBAM, "site_cbam", ("avg", "max")),
        ("se", ChannelAttention, "site_se", ("avg",)),
        ("channel", ChannelAttention, "site_channel", ("avg", "max")),
        ("spatial", SpatialAttention, "site_spatial", ("avg", "max")),
        ({"class_name": "se"}, ChannelAttention, "site_se", ("avg",)),
        (
            {"class_name": "cbam", "config": {"pooling": ["lse"]}},
            CBAM,
            "site_cbam",
            ("lse",),
        ),
        (
            keras.saving.serialize_keras_object(ChannelAttention(pooling="lp")),
            ChannelAttention,
            "site_channel_attention",
            ("lp",),
        ),
        (SpatialAttention(pooling="conv"), SpatialAttention, "site_spatial_attention", ("conv",)),
        (CBAM, CBAM, "site_cbam", ("avg", "max")),
        (functools.partial(CBAM, pooling="max"), CBAM, "site_cbam", ("max",)),
        (lambda: CBAM(pooling="lse"), CBAM, "site_cbam", ("lse",)),
        (lambda: "se", ChannelAttention, "site_se", ("avg",)),
        (lambda ratio=2: CBAM(ratio), CBAM, "site_cbam", ("avg", "max")),
        (lambda site: "se" if site == "site" else None, ChannelAttention, "site_se", ("avg",)),
        (lambda site: {"site": CBAM}[site], CBAM, "site_cbam", ("avg", "max")),
        ({"site": "spatial"}.get, SpatialAttention, "site_spatial", ("avg", "max")),
        (
            functools.partial(lambda site, pooling: CBAM(pooling=pooling), pooling="lp"),
            CBAM,
            "site_cbam",
            ("lp",),
        ),
    ],
)
def test_what_may_be_attention(attention, layer_class, name, pooling):
    layer = layer_for_site(attention, "site", dtype="mixed_float16", data_format="channels_first")
    assert type(layer) is layer_class
    assert (layer.name, layer.pooling) == (name, pooling)
    assert layer.compute_dtype == "float16"
    assert layer.data_format == "channels_first"


def config(**given):
    return {"class_name": "cbam", "config": given}


@pytest.mark.parametrize(
    ("attention", "kept"),
    [
        # What follows the builder.
        ("cbam", None),
        ("bam", None),
        ("control", None),
        (config(), None),
        ({"class_name": "cbam"}, None),
        (CBAM, None),
        (functools.partial(CBAM, kernel_size=3), None),
        (CBAM(), None),
        (CBAM(start_as_identity=False), None),
        (lambda site: "cbam", None),
        (lambda: config(), None),
        (lambda: CBAM, None),
        # What is kept.
        (config(start_as_identity=False), False),
        (config(start_as_identity=True), True),
        (keras.saving.serialize_keras_object(CBAM()), False),
        (functools.partial(CBAM, start_as_identity=False), False),
        (functools.partial(CBAM, start_as_identity=True), True),
        (CBAM(start_as_identity=True), True),
        (lambda: CBAM(), False),
        (lambda site: CBAM(start_as_identity=True), True),
        (lambda site: config(start_as_identity=False), False),
        (lambda: functools.partial(CBAM, start_as_identity=False), False),
    ],
)
def test_the_builder_decides_on_the_start_except_for_what_is_said(attention, kept):
    for of_builder in (False, True):
        layer = layer_for_site(attention, "site", start_as_identity=of_builder)
        assert layer.start_as_identity == (of_builder if kept is None else kept)


def test_bam():
    layer = layer_for_site("bam", "site", start_as_identity=False, dtype="mixed_float16")
    assert type(layer) is BAM
    assert (layer.name, layer.combine, layer.compute_dtype) == ("site_bam", "add", "float16")


def test_the_control():
    layer = layer_for_site("control", "site", data_format="channels_first")
    assert type(layer) is ConvolutionControl
    found = (layer.name, layer.reduction_ratio, layer.data_format)
    assert found == ("site_control", 16, "channels_first")


@pytest.mark.parametrize("attention", [None, lambda site: None, lambda: None])
def test_none_is_no_attention(attention):
    assert layer_for_site(attention, "site") is None


def test_a_template_serves_many_sites():
    template = attention_template(functools.partial(CBAM, kernel_size=3))
    layers = [layer_for_site(template, site) for site in ("a", "b")]
    assert [(layer.name, layer.kernel_size) for layer in layers] == [("a_cbam", 3), ("b_cbam", 3)]


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("cbm", "Did you mean 'cbam'.*Received: attention='cbm'"),
        ("squeeze", "Known: 'cbam', 'se'"),
        ({"class_name": "chanel"}, "Did you mean 'channel'"),
        ({"config": {}}, "'class_name' and 'config'"),
        (3, "Received: attention=3"),
        (int, re.escape("Received: attention=<class 'int'>")),
        ({"class_name": ["cbam"]}, "'class_name' and 'config'"),
        ({"class_name": "cbam", "kernel_size": 3}, "'class_name' and 'config' only"),
        ({"class_name": "cbam", "config": 3}, "'class_name' and 'config' only"),
        (keras.layers.Conv2D, "cannot be called so: .*missing 2 required"),
        ({"class_name": "function", "config": "relu", "module": "keras.activations"}, "a layer"),
        (lambda site: 3, "Received: attention=3"),
        (lambda: lambda site: "cbam", "a layer class, or a callable"),
        (keras.layers.Dropout(0.5), "Dropout has no argument `start_as_identity`"),
        (functools.partial(keras.layers.Dropout, 0.5), "Dropout has no argument"),
    ],
)
def test_unknown_attention(attention, message):
    with pytest.raises(ValueError, match=message):
        layer_for_site(attention, "site")


@pytest.mark.parametrize("start", [None, "yes"])
def test_the_start_must_be_a_boolean(start):
    with pytest.raises(ValueError, match="`start_as_identity` must be True or False"):
        layer_for_site("cbam", "site", start_as_identity=start)


@pytest.mark.parametrize("is_positional", [True, False])
def test_the_start_in_a_partial_is_kept(is_positional):
    attention = functools.partial(BAM, start_as_identity=False)
    if is_positional:
        attention = functools.partial(BAM, 16, 4, "add", "sigmoid", False)
    assert not layer_for_site(attention, "site").start_as_identity


@pytest.mark.parametrize(
    "attention", [keras.layers.Dropout(0.5), functools.partial(keras.layers.Dropout, 0.5)]
)
def test_any_layer_may_be_inserted_if_no_identity_is_asked_for(attention):
    layer = layer_for_site(attention, "site", start_as_identity=False)
    assert (layer.name, layer.rate) == ("site_dropout", 0.5)
