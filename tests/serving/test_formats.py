import sys

import pytest

from keras_cbam.serving.formats import FORMATS, find_format


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pb",), r"one of saved_model, litert, onnx\. Received: format='pb'"),
        (("saved_model", "int8"), r"one of none for .* saved_model\. Received: quantize='int8'"),
        (("litert", "int4"), r"one of none, float16, int8 .* Received: quantize='int4'"),
        (("onnx", "none", "model.tflite"), r"end in \.onnx\. Received: output='model\.tflite'"),
    ],
)
def test_unknown_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        find_format(*arguments)


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_missing_libraries_name_their_extra(name, monkeypatch):
    for library in FORMATS[name].libraries:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ImportError, match=rf"{library}.*keras_cbam\[{name}\]"):
                find_format(name)
