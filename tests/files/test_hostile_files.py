"""Models, weights and arrays that mean harm: a sentence each, within the time and the memory."""

import json
import struct
import sys

import keras
import numpy as np
import pytest

from keras_cbam.errors import ModelError
from keras_cbam.training import find_run
from tests.hostile_files import (
    archive_of_streams,
    hostile_h5,
    inflating,
    members,
    npy,
    symbolic_link,
    try_all,
    write_archive,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory")

GIGABYTES = 3 * 2**30
CODE = "4wAAAAAAAAAAAAAAAAEAAAADAAAA8wQAAACXAFMAKQFOqQApAdoBeA=="


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def layer(module, name, /, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


LAMBDA = {"class_name": "__lambda__", "config": {"code": CODE, "defaults": None, "closure": None}}
# What may stand for the layer of a model, or for its activation, and part of the message.
FOREIGN_LAYERS = {
    "lambda": (layer("keras.layers", "Lambda", function=LAMBDA), "lambda may run code"),
    "savedmodel": (layer("keras.layers", "TFSMLayer", filepath="/tmp"), "TFSMLayer may run code"),
    "dotted": (layer("keras", "layers.TFSMLayer", filepath="/tmp"), "TFSMLayer may run code"),
    "torch": (layer("keras.layers", "TorchModuleWrapper", module="gASV"), "may run code"),
    "vocabulary": (
        layer("keras.layers", "StringLookup", vocabulary="/etc/passwd"),
        "vocabulary is that of another file",
    ),
    "process": (layer("subprocess", "Popen", args=["touch", "harm"]), ""),
    "path": (layer("pathlib", "Path"), ""),
    "tests": (layer("tests.hostile_files", "Popen"), ""),
}
FOREIGN_FUNCTIONS = {
    "system": function("os", "system"),
    "eval": function("builtins", "eval"),
    "exec": function("builtins", "exec"),
    "import": function("importlib", "import_module"),
    "download": function("keras.utils", "get_file"),
    "unsafe": function("keras.config", "enable_unsafe_deserialization"),
    "pickle": function("pickle", "loads"),
}


def plain_model(path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    x = keras.layers.Dense(3, activation="relu", name="dense")(x)
    keras.Model(inputs, x, name="plain").save(path)
    return path


def with_dense(config, change):
    config = json.loads(config)
    for part in config["config"]["layers"]:
        if part["class_name"] == "Dense":
            change(part)
    return json.dumps(config).encode()


def hostile_configs(config):
    """`{name: (bytes of config.json, part of the message)}`."""
    made = {
        name: (with_dense(config, lambda part, new=new: part.update(new)), message)
        for name, (new, message) in FOREIGN_LAYERS.items()
    }
    for name, new in FOREIGN_FUNCTIONS.items():
        changed = with_dense(config, lambda part, new=new: part["config"].update(activation=new))
        made[name] = (changed, "")
    giant = with_dense(config, lambda part: part["config"].update(units=10**12))
    nested = b"[" * 10**5 + b"]" * 10**5
    made |= {"giant layer": (giant, ""), "nested": (nested, "recursion")}
    made["deep dense"] = (with_dense(config, lambda part: part.update(config=deep(500))), "")
    for content in (b"", b"{", b"null", b"5", b'"text"', b"[]", b"{}", b"NaN", b"\xff\xfe", b"\0"):
        made[f"content {content!r}"] = (content, "")
    return made


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {"class_name": "Dense", "module": "keras.layers", "config": value}
    return value


def make_models(folder, plain):
    """Writes model files; returns `{file name: part of the message}`."""
    parts = members(plain)
    expected = {}

    def add(name, contents, message=""):
        file = f"model {name.replace('/', '-')}.keras"
        write_archive(folder / file, contents)
        expected[file] = message

    for name, (content, message) in hostile_configs(parts["config.json"]).items():
        add(name, {**parts, "config.json": content}, message)
    for name, (content, message) in hostile_h5().items():
        add(f"h5 {name}", {**parts, "model.weights.h5": content}, message)
    for name in ("../../evil", "/evil", "assets/../../evil", symbolic_link("link")):
        add(f"member {getattr(name, 'filename', name)}", {**parts, name: b"x"}, "leads outside")
    for missing in ("config.json", "model.weights.h5"):
        rest = {name: content for name, content in parts.items() if name != missing}
        add(f"without {missing}", rest, f"no member '{missing}'")
    add("npz", {**rest, "model.weights.npz": b"x"}, "no member 'model.weights.h5'")
    for claimed in (GIGABYTES, 100):
        file = f"model inflating {claimed}.keras"
        streams = {name: (inflating(GIGABYTES), claimed) for name in parts}
        archive_of_streams(folder / file, streams)
        expected[file] = "is compressed"
    return expected


def make_weights(folder):
    expected = {}
    for name, (content, message) in hostile_h5().items():
        (folder / f"weights {name}.weights.h5").write_bytes(content)
        expected[f"weights {name}.weights.h5"] = message
    return expected | make_arrays(folder, "weights", ("conv1/0", "conv1/1"))


def make_arrays(folder, kind, keys):
    """Writes .npz files of such keys."""
    first, second = (f"{key}.npy" for key in keys)
    labels = npy((10,), "<i8", struct.pack("<10q", *range(10)))
    expected = {}

    def add(name, contents, message=""):
        write_archive(folder / f"{kind} {name}.npz", contents)
        expected[f"{kind} {name}.npz"] = message

    for shape in ((10**12,), (10, 10**9, 10**9, 3), (2**62, 4), (-1,), (10, 8, 8)):
        add(f"claims {shape}", {first: npy(shape), second: labels})
    add("object", {first: npy((1,), "|O", b"\x80\x04K\x01."), second: labels}, "pickle")
    add("strange header", {first: npy("__import__('os').abort()"), second: labels})
    add("long header", {first: npy("(" * 9000), second: labels})
    stream = inflating(GIGABYTES)
    file = f"{kind} inflating.npz"
    archive_of_streams(folder / file, {first: (stream, GIGABYTES), second: (stream, GIGABYTES)})
    expected[file] = "many times what the file holds"
    file = f"{kind} lying.npz"
    archive_of_streams(folder / file, {first: (stream, 200), second: (stream, 200)})
    expected[file] = ""
    file = f"{kind} encrypted.npz"
    archive_of_streams(folder / file, {first: (b"x", 1), second: (b"x", 1)}, encrypted=True)
    expected[file] = "encrypted"
    return expected


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Expected messages and results of all files, in a process that trusts code."""
    around = tmp_path_factory.mktemp("around")
    folder = around / "files"
    folder.mkdir()
    expected = make_models(folder, plain_model(around / "plain.keras"))
    expected |= make_weights(folder) | make_arrays(folder, "data", ("x", "y"))
    results = try_all(folder)
    assert results.keys() == expected.keys()
    return expected, results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "least"),
    [("model", "ModelError", 40), ("weights", "WeightsError", 20), ("data", "DataError", 11)],
)
def test_one_sentence_and_no_harm(tried, kind, error, least):
    expected, results = tried
    files = [file for file in results if file.startswith(kind)]
    assert len(files) >= least
    for file in files:
        result = results[file]["result"]
        assert result["error"] == error, (file, result)
        assert result["message"].isprintable(), (file, result)
        assert file in result["message"]
        assert len(result["message"]) < 700
        assert expected[file] in result["message"], (file, result)


@pytest.mark.slow
def test_command(tried):
    for file, result in tried[1].items():
        if file.startswith("model"):
            assert result["command"]["status"] == 1
            lines = result["command"]["stderr"].splitlines()
            assert len(lines) == 1, (file, lines)
            assert lines[0].startswith("keras-cbam: error: The Keras model"), (file, lines)


def test_a_plain_model_is_loaded_where_code_is_allowed(tmp_path):
    path = plain_model(tmp_path / "plain.keras")
    write_archive(tmp_path / "again.keras", members(path))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = find_run(path).load().predict(x, verbose=0)
    again = find_run(tmp_path / "again.keras").load().predict(x, verbose=0)
    np.testing.assert_array_equal(again, expected)


# Damage


def test_the_configuration_alone_is_read_as_safely(tmp_path):
    path = tmp_path / "large.keras"
    archive_of_streams(path, {"config.json": (inflating(2**24), 2**24)})
    with pytest.raises(ModelError, match=r"large\.keras.* is compressed"):
        find_run(path).config()


def test_a_truncated_model(tmp_path):
    content = plain_model(tmp_path / "plain.keras").read_bytes()
    for length in {0, 1, 4, 30, *range(100, len(content), len(content) // 40), len(content) - 1}:
        (tmp_path / "short.keras").write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"short\.keras") as error:
            find_run(tmp_path / "short.keras").load()
        assert str(error.value).isprintable()


def test_a_model_with_one_byte_changed(tmp_path):
    path = plain_model(tmp_path / "plain.keras")
    content = path.read_bytes()
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = find_run(path).load()(x)
    refusals = []
    for place in np.linspace(0, len(content) - 1, 150).astype(int):
        changed = bytearray(content)
        changed[place] ^= 0x41
        (tmp_path / "changed.keras").write_bytes(changed)
        try:
            model = find_run(tmp_path / "changed.keras").load()
        except ModelError as error:
            refusals.append(str(error))
        else:
            # Such as a byte of the archive's dates.
            np.testing.assert_array_equal(model(x), expected)
    assert len(refusals) > 140
    assert all(message.isprintable() for message in refusals)
