import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import keras_cbam.data


def test_names_are_imported_when_they_are_used():
    script = """
import sys
# As in the command, which imports no layers.
sys.argv = ["keras-cbam"]
import keras_cbam._lazy
before = set(sys.modules)
import keras_cbam.data
assert set(sys.modules) - before == {"keras_cbam.data"}
from keras_cbam.data import share, ONE_DEVICE
assert ONE_DEVICE.count == 1
assert "keras_cbam.data.load" not in sys.modules
from keras_cbam.data import *
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_public_names_of_a_room():
    names = keras_cbam.data.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(keras_cbam.data, name) is not None
    assert set(names) <= set(dir(keras_cbam.data))
    with pytest.raises(AttributeError, match=r"'keras_cbam.data' has no attribute 'image'"):
        keras_cbam.data.image  # noqa: B018


def test_any_room(tmp_path, monkeypatch):
    (tmp_path / "some_room").mkdir()
    (tmp_path / "some_room" / "part.py").write_text("")
    (tmp_path / "some_room" / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from keras_cbam._lazy import import_lazily\n"
        "if TYPE_CHECKING:\n"
        "    from math import pi as pi\n"
        "    from math import sqrt as sqrt\n"
        "    from some_room import part as part\n"
        "import_lazily(__name__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    room = importlib.import_module("some_room")
    assert room.__all__ == ["pi", "sqrt"]
    assert {"pi", "sqrt", "part", "__name__"} <= set(dir(room))
    assert "pi" not in vars(room)
    assert room.pi == vars(room)["pi"] == 3.141592653589793
    assert room.part is sys.modules["some_room.part"]
    assert not hasattr(room, "TYPE")


ROOMS = (
    *("classification", "data", "detection", "insertion", "layers", "models", "serving"),
    *("training", "visualization"),
)


def test_rooms_are_attributes_and_names_are_at_the_top():
    script = """
import sys
import keras
import keras_cbam
late = {"applications", "cost", "data", "detection", "models", "training", "visualization"}
assert not {f"keras_cbam.{name}" for name in late} & set(sys.modules)
assert keras_cbam.models.ResNet50 is keras_cbam.models.resnet.ResNet50
assert keras_cbam.cost.cost_table is keras_cbam.cost_table
assert issubclass(keras_cbam.layers.CBAM, keras_cbam.AttentionLayer)
from keras_cbam import *
assert keras.layers is not keras_cbam.layers and "layers" not in globals()
for name in ("attention_maps", "grad_cam", "plot_attention", "insert_attention", "CBAM"):
    assert callable(globals()[name]), name
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_is_that_of_a_module(room):
    package = importlib.import_module(f"keras_cbam.{room}")
    assert package.__all__
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)
    assert not modules & set(keras_cbam.__all__)


@pytest.mark.parametrize("room", ["", *(f".{room}" for room in ROOMS)])
def test_type_checkers_see_every_name(room):
    package = importlib.import_module(f"keras_cbam{room}")
    tree = ast.parse(inspect.getsource(package))
    seen = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(package.__all__) <= seen
