import keras
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from keras_cbam.attention import attention_layer


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
        (lambda site: "se" if site == "site" else None, ChannelAttention, "site_se", ("avg",)),
    ],
)
def test_what_may_name_attention(attention, layer_class, name, pooling):
    layer = attention_layer(attention, "site", dtype="mixed_float16", data_format="channels_first")
    assert type(layer) is layer_class
    assert (layer.name, layer.pooling) == (name, pooling)
    assert layer.start_as_identity
    assert layer.compute_dtype == "float16"
    assert layer.data_format == "channels_first"


def test_bam():
    layer = attention_layer("bam", "site", start_as_identity=False, dtype="mixed_float16")
    assert type(layer) is BAM
    assert (layer.name, layer.combine, layer.compute_dtype) == ("site_bam", "add", "float16")
    assert not layer.start_as_identity
    assert attention_layer("bam", "site").start_as_identity


def test_callable_may_leave_a_site_out():
    assert attention_layer(lambda site: None, "site") is None


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("cbm", "Did you mean 'cbam'.*Received: attention='cbm'"),
        ("squeeze", "Known: 'cbam', 'se'"),
        ({"class_name": "chanel"}, "Did you mean 'channel'"),
        ({"config": {}}, "'class_name' and 'config'"),
        (3, "Received: attention=3"),
        (CBAM, "Received: attention=<class"),
        ({"class_name": ["cbam"]}, "'class_name' and 'config'"),
        (lambda site: 3, "Received: attention=3"),
        (keras.layers.Dropout(0.5), "Dropout has no argument `start_as_identity`"),
    ],
)
def test_unknown_attention(attention, message):
    with pytest.raises(ValueError, match=message):
        attention_layer(attention, "site")


def test_any_layer_may_be_inserted_if_no_identity_is_asked_for():
    layer = attention_layer(keras.layers.Dropout(0.5), "site", start_as_identity=False)
    assert (layer.name, layer.rate) == ("site_dropout", 0.5)
