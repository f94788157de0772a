"""What any configuration, picture and command line must do: strategies, and properties to check.

`PROPERTIES` maps the name of each to its strategy and to a function that fails for a bad input. The
tests try a few examples of each, `benchmarks/fuzz.py` many.
"""

import contextlib
import functools
import io
import json
import os
import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from keras_cbam.attention import ATTENTION, attention_layer
from keras_cbam.cli import COMMANDS, main
from keras_cbam.commands import convert, cost, evaluate, explain, paper, train
from keras_cbam.commands.parser import Parser
from keras_cbam.models.checkpoint_files import CheckpointError
from keras_cbam.training.data_set import DataError
from keras_cbam.training.pictures import check_headers, read_pictures

LAYERS = (ChannelAttention, SpatialAttention, CBAM, BAM)
SHAPE = (2, 5, 6, 8)

# Configurations

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
        layer = attention_layer(value, "site")
    except (ValueError, TypeError) as error:
        _refused(error)
        return
    assert layer is None or layer.name.startswith("site_")


# Pictures


@functools.cache
def _pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), "uint8")
    colour = Image.fromarray(pixels)
    palette = colour.convert("P")
    made = []
    for image, file_format, options in (
        (colour, "JPEG", {}),
        (colour, "JPEG", {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "PNG", {}),
        (palette, "PNG", {"transparency": 3}),
        (Image.fromarray(pixels[..., 0].astype("uint16") * 257), "PNG", {}),
        (colour, "BMP", {}),
        (palette, "BMP", {}),
        (palette, "GIF", {}),
        (palette, "GIF", {"save_all": True, "append_images": [palette] * 2}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        made.append(buffer.getvalue())
    return made


@st.composite
def picture_bytes(draw):
    """Pictures cut, changed, put together, or none at all."""
    content = bytearray(draw(st.sampled_from(_pictures())))
    for _ in range(draw(st.integers(0, 6))):
        # Half of the damage is in the first bytes, where the structure is.
        end = draw(st.sampled_from([min(60, len(content)), len(content)]))
        place = draw(st.integers(0, end))
        change = draw(st.sampled_from(["cut", "set", "insert", "delete", "append", "repeat"]))
        if change == "cut":
            del content[place:]
        elif change == "set":
            new = draw(st.binary(min_size=1, max_size=4))
            content[place : place + len(new)] = new
        elif change == "insert":
            content[place:place] = draw(st.binary(max_size=40))
        elif change == "delete":
            del content[place : place + draw(st.integers(1, 40))]
        elif change == "append":
            content += draw(st.sampled_from(_pictures()))
        else:
            content[place:place] = content[place : place + 30] * draw(st.integers(1, 20))
    return bytes(content)


def picture(content):
    """It is read, or a reason is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "picture")
        pathlib.Path(path).write_bytes(content)
        (header_reason,) = check_headers([path])
        images, (reason,) = read_pictures([path], 32)
    assert images.shape == (1, 32, 32, 3)
    for why in (header_reason, reason):
        assert why is None or (why.strip() and why.isprintable())
    assert header_reason is None or reason is not None


# Command lines


def _actions():
    """`{command: its options}`, from the parsers themselves."""
    parser = Parser()
    commands = parser.add_subparsers()
    for module in COMMANDS:
        module.add(commands)
    return {name: command._actions for name, command in commands.choices.items()}


ACTIONS = _actions()
# No command line can hold a null character.
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)
UNDECODABLE = st.binary(max_size=6).map(lambda value: os.fsdecode(value.replace(b"\0", b"")))
VALUES = st.one_of(
    TEXT,
    UNDECODABLE,
    NUMBERS.map(str),
    st.sampled_from(
        [
            *(
                "-1",
                "--",
                "-",
                "",
                "nan",
                "inf",
                "1e999",
                "None",
                "a=b",
                "a=[",
                "a={[]:1}",
                "=",
                "x=",
            ),
            *("a='\\d'", "a=1 if", "a=b'", "a=" + "(" * 300, "a=" + "-" * 9999),
            *("none", "imagenet", "cbam", "MobileNet", "ResNet50", "mnist", "float16", "paper"),
            *("/", ".", "..", "/dev/null", "/dev/zero", "nowhere.keras", "x" * 5000, "a\nb", "%s"),
            *("{}", "@file", "file.npz", "*", "9" * 5000, "a=" + "9" * 5000, "--help"),
        ]
    ),
)


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(sorted(ACTIONS)))
    line = []
    for action in draw(st.lists(st.sampled_from(ACTIONS[name]), max_size=5)):
        value = VALUES
        if action.choices is not None:
            value = VALUES | st.sampled_from(sorted(action.choices))
        if not action.option_strings:
            line.append(draw(value))
            continue
        option = draw(st.sampled_from(action.option_strings))
        if action.nargs == 0:
            line.append(option)
        elif draw(st.booleans()):
            line.append(f"{option}={draw(value)}")
        else:
            line += [option, draw(value)]
    line += draw(st.lists(VALUES, max_size=2))
    return (
        [name, *line] if draw(st.integers(0, 9)) else [*draw(st.lists(VALUES, max_size=2)), *line]
    )


def _recorded(error, called):
    def record(*arguments, **options):
        called.append((arguments, options))
        raise error("Recorded.")

    return record


@contextlib.contextmanager
def nothing_heavy():
    """Within the block, commands only check what they are given; yields the calls."""
    called = []
    data = _recorded(DataError, called)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(train.RECIPES, dict.fromkeys(train.RECIPES, data)))
        for module, name, error in (
            (evaluate, "evaluate_classifier", DataError),
            (explain, "explain_pictures", DataError),
            (convert, "model_from_checkpoint", CheckpointError),
            (cost, "application_cost", DataError),
            (paper, "paper_table", DataError),
        ):
            stack.enter_context(mock.patch.object(module, name, _recorded(error, called)))
        yield called


def command_line(line):
    """It ends with a status and at most one line of error."""
    # As Python opens them where the locale is UTF-8.
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    with nothing_heavy(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(line)
        except SystemExit as end:
            status = end.code
    out.flush()
    err.flush()
    error = err.buffer.getvalue().decode()
    assert status in (0, 1, 2)
    assert len(error.splitlines()) <= 1
    assert error.rstrip("\n").isprintable()
    assert bool(error) == (status != 0)


PROPERTIES = {
    "valid layers": (valid_layers(), valid_layer),
    "mutated layer configs": (mutated_configs(), mutated_config),
    "registry": (attentions(), attention),
    "picture bytes": (picture_bytes(), picture),
    "command lines": (command_lines(), command_line),
}
