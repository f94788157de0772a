import subprocess
import sys

import pytest

import keras_cbam.data
from keras_cbam._lazy import lazy_names


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
    with pytest.raises(AttributeError, match=r"'keras_cbam.data' has no attribute 'picture'"):
        keras_cbam.data.picture  # noqa: B018


def test_any_room():
    get, names, public = lazy_names("keras_cbam.data", {"sqrt": "math", "pi": "math"})
    assert public == ["pi", "sqrt"]
    assert get("pi") == keras_cbam.data.pi == 3.141592653589793
    assert {"pi", "sqrt", "__name__"} <= set(names())
    del keras_cbam.data.pi
