"""Strategies and properties of the layers' configurations, valid and mutated, see `fuzzing.py`."""

import json

import keras
import numpy as np
from hypothesis import strategies as st

from keras_cbam import BAM, CBAM, ChannelAttention, ConvolutionControl, SpatialAttention
from keras_cbam.attention import ATTENTION, layer_for_site

LAYERS = (ChannelAttention, SpatialAttention, CBAM, BAM, ConvolutionControl)
SHAPE = (2, 5, 6, 8)

WORDS = st.sampled_from(
    [
        *(
            "",
            "relu",
            "sigmoid",
            "linear",
            "avg",
            "conv",
            "zeros",
            "l2",
            "float16",
            "channels_last",
        ),
        *("__lambda__", "function", "os.system", "get_file", "class_name", "config", "\0", "a\nb"),
        "channels_last",
    ]
)
NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-3, 9) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=9)


def _containers(values):
    serialized = st.fixed_dictionaries(
        {"class_name": WORDS | values, "config": values},
        optional={"module": WORDS | st.just("keras.layers"), "registered_name": WORDS},
    )
    return st.lists(values, max_size=3) | st.dictionaries(WORDS, values, max_size=3) | serialized


JUNK = st.recursive(LEAVES, _containers, max_leaves=8)

_ACTIVATIONS = st.sampled_from(["relu", "tanh", "gelu", "sigmoid", "hard_sigmoid"])
_INITIALIZERS = st.sampled_from(["zeros", "ones", "glorot_uniform", "he_normal"])
_REGULARIZERS = st.none() | st.sampled_from(["l1", "l2"])


def _pools(names):
    return st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)


_CHANNEL_POOLS, _SPATIAL_POOLS = _pools(["avg", "max", "lp", "lse"]), _pools(["avg", "max", "conv"])
_SHARED = {
    "gate_activation": _ACTIVATIONS,
    "start_as_identity": st.booleans(),
    "data_format": st.sampled_from(["channels_last", "channels_first"]),
    "kernel_initializer": _INITIALIZERS,
    "bias_initializer": _INITIALIZERS,
    "kernel_regularizer": _REGULARIZERS,
    "bias_regularizer": _REGULARIZERS,
    "dtype": st.sampled_from(["float32", "mixed_float16", "bfloat16"]),
    "name": st.sampled_from(["gate", "a_b"]),
    "trainable": st.booleans(),
}
_RATIO = {"reduction_ratio": st.integers(1, 20)}
_KERNEL = {"kernel_size": st.sampled_from([1, 3, 5, 7]), "use_batch_norm": st.booleans()}
_MLP = {"activation": _ACTIVATIONS, "use_bias": st.booleans()}
ARGUMENTS = {
    ChannelAttention: {**_SHARED, **_RATIO, **_MLP, "pooling": _CHANNEL_POOLS},
    SpatialAttention: {
        **_SHARED,
        **_KERNEL,
        "use_bias": st.booleans(),
        "pooling": _SPATIAL_POOLS,
    },
    CBAM: {
        **_SHARED,
        **_RATIO,
        **_KERNEL,
        **_MLP,
        "pooling": _CHANNEL_POOLS,
        "spatial_pooling": _SPATIAL_POOLS,
        "arrangement": st.sampled_from(
            ["channel_spatial", "spatial_channel", "parallel", "channel", "spatial"]
        ),
        "residual": st.booleans(),
    },
    BAM: {
        **_SHARED,
        **_RATIO,
        "dilation_rate": st.integers(1, 4),
        "combine": st.sampled_from(["add", "multiply"]),
    },
    ConvolutionControl: {
        **{name: values for name, values in _SHARED.items() if name != "gate_activation"},
        **_RATIO,
    },
}


@st.composite
def valid_layers(draw):
    layer_class = draw(st.sampled_from(LAYERS))
    return layer_class, draw(st.fixed_dictionaries({}, optional=ARGUMENTS[layer_class]))


@st.composite
def mutated_configs(draw):
    """A layer class, arguments, and what replaces parts of the configuration (`...`: nothing)."""
    layer_class, arguments = draw(valid_layers())
    names = st.sampled_from(sorted(ARGUMENTS[layer_class]))
    changes = draw(st.dictionaries(names, st.just(...) | JUNK | JUNK, max_size=4))
    more = draw(st.just({}) | st.dictionaries(WORDS, JUNK, max_size=2))
    return layer_class, arguments, {**changes, **more}


def _mutated(layer_class, arguments, changes):
    config = {**layer_class(**arguments).get_config(), **changes}
    return {name: value for name, value in config.items() if value is not ...}


def _same(first, second):
    """Equal configurations, also where they hold what is not equal to itself."""
    return repr(first) == repr(second)


def valid_layer(case):
    """A configuration makes the same layer: an equal configuration, equal outputs."""
    layer_class, arguments = case
    layer = layer_class(**arguments)
    config = layer.get_config()
    copy = layer_class.from_config(json.loads(json.dumps(config)))
    assert _same(copy.get_config(), config)
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    outputs = layer(x)
    copy.build(SHAPE)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(_array(copy(x)), _array(outputs))


def _array(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def _refused(error):
    assert str(error).strip(), "an error without words"


def mutated_config(case):
    """It makes a layer whose configuration makes the same again, or is refused."""
    layer_class, config = case[0], _mutated(*case)
    try:
        layer = layer_class.from_config(config)
    except (ValueError, TypeError) as error:
        _refused(error)
        return
    config = layer.get_config()
    assert _same(layer_class.from_config(config).get_config(), config)


@st.composite
def attentions(draw):
    """What somebody may give as `attention`; a tuple stands for a mutated configuration."""
    case = draw(mutated_configs())
    name = draw(st.sampled_from(sorted(ATTENTION)) | st.just(case[0].__name__) | WORDS)
    named = {"class_name": name, "config": draw(st.just(case) | JUNK)}
    module = {"module": "keras_cbam", "registered_name": f"keras_cbam>{case[0].__name__}"}
    return draw(st.sampled_from([name, named, {**named, **module}, case]) | JUNK)


def attention(value):
    """It makes a layer, or is refused."""
    if isinstance(value, tuple):
        value = _mutated(*value)
    elif isinstance(value, dict) and isinstance(value.get("config"), tuple):
        value = {**value, "config": _mutated(*value["config"])}
    try:
        layer = layer_for_site(value, "site")
    except (ValueError, TypeError) as error:
        _refused(error)
        return
    assert layer is None or layer.name.startswith("site_")
