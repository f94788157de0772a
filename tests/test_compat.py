import sys
import types

import keras
import pytest

from keras_cbam import _compat
from tests.checks import BACKEND


def test_a_name_that_has_gone_is_told(monkeypatch):
    monkeypatch.delattr(keras.Layer, "_flatten_layers")
    sentence = f"uses Identity._flatten_layers, which Keras {keras.__version__} does not have"
    with pytest.raises(ImportError, match=sentence):
        _compat.inner_layers(keras.layers.Identity())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's")
def test_without_tensorflow_s_name_nothing_counts_as_compiled(monkeypatch):
    import tensorflow as tf

    def is_compiled():
        found = []
        tf.function(lambda x: found.append(_compat.is_compiled_around(x)), jit_compile=True)(1.0)
        return found

    assert is_compiled() == [True]
    without = types.ModuleType("control_flow_util")
    monkeypatch.setitem(sys.modules, "tensorflow.python.ops.control_flow_util", without)
    _compat.xla_context_test.cache_clear()
    assert is_compiled() == [False]
    monkeypatch.undo()
    _compat.xla_context_test.cache_clear()
