import importlib.util

import numpy as np
import pytest

from keras_cbam.serving.conversion import in_float32, write
from keras_cbam.serving.formats import FORMATS
from keras_cbam.serving.runtimes import load_artefact
from keras_cbam.serving.saved_model import write_saved_model
from tests.checks import BACKEND
from tests.serving.models import SIZE, classifier, images, predictions

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="the converters run under TensorFlow"),
    # Of the converters' own making.
    pytest.mark.filterwarnings("ignore"),
]
QUANTIZATIONS = {"none": 1e-4, "float16": 1e-2, "int8": 0.1}
each_quantization = pytest.mark.parametrize(
    "quantize",
    ["none", *(pytest.param(one, marks=pytest.mark.slow) for one in ("float16", "int8"))],
)


def needs(name):
    missing = [one for one in FORMATS[name].libraries if importlib.util.find_spec(one) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.fixture(scope="module")
def litert(model, tmp_path_factory):
    """A function from a quantization to the file, which is written once."""
    needs("litert")
    return written_once("litert", model, tmp_path_factory.mktemp("litert"))


@pytest.fixture(scope="module")
def onnx(model, tmp_path_factory):
    needs("onnx")
    return written_once("onnx", model, tmp_path_factory.mktemp("onnx"))


def written_once(name, model, folder):
    np.save(folder / "images.npy", images())

    def file_of(quantize):
        file = folder / f"{quantize}{FORMATS[name].suffix}"
        if not file.exists():
            write(model, name, file, write_saved_model, quantize, folder / "images.npy")
        return file

    return file_of


def check_predictions(name, file, expected, tolerance):
    predict = load_artefact(name, file)
    pixels = images().astype("float32")
    for count in (1, 5, 12):
        actual = predict(pixels[:count])["probabilities"]
        assert actual.dtype == "float32"
        np.testing.assert_allclose(actual, expected[:count], atol=tolerance)


@each_quantization
def test_litert(litert, model, quantize):
    file = litert(quantize)
    check_predictions("litert", file, predictions(model, images()), QUANTIZATIONS[quantize])


@each_quantization
def test_litert_operators(litert, quantize):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(litert(quantize)))
    names = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert not [name for name in names if name.startswith(("Flex", "CUSTOM"))]
    assert ("QUANTIZE" in names) == (quantize == "int8")
    (pixels,) = interpreter.get_input_details()
    assert pixels["dtype"] is np.float32
    assert pixels["shape_signature"].tolist() == [-1, SIZE, SIZE, 3]
    signatures = {"serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}}
    assert interpreter.get_signature_list() == signatures


@each_quantization
def test_onnx(onnx, model, quantize):
    file = onnx(quantize)
    check_predictions("onnx", file, predictions(model, images()), QUANTIZATIONS[quantize])


@each_quantization
def test_onnx_inputs_and_operators(onnx, quantize):
    import onnx as library

    graph = library.load(onnx(quantize)).graph
    operators = {node.op_type for node in graph.node}
    assert ("QuantizeLinear" in operators) == (quantize == "int8")
    half = library.TensorProto.FLOAT16
    assert any(tensor.data_type == half for tensor in graph.initializer) == (quantize == "float16")
    (pixels,), (outputs,) = graph.input, graph.output
    assert (pixels.name, outputs.name) == ("pixels", "probabilities")
    for tensor, shape in ((pixels, ["batch", SIZE, SIZE, 3]), (outputs, ["batch", 5])):
        assert tensor.type.tensor_type.elem_type == library.TensorProto.FLOAT
        dimensions = tensor.type.tensor_type.shape.dim
        assert [one.dim_param or one.dim_value for one in dimensions] == shape


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_mixed_precision_becomes_float32(model, policy):
    expected = predictions(model, images())
    copy = in_float32(classifier(policy, end_dtype=policy))
    assert {weight.dtype for weight in copy.weights} == {"float32"}
    actual = predictions(copy, images())
    if policy == "float16":
        # Its weights are rounded.
        np.testing.assert_allclose(actual, expected, atol=1e-2)
    else:
        np.testing.assert_allclose(actual, expected, atol=1e-6)
