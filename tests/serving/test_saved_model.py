"""On every backend: JAX and PyTorch write by way of a fresh process under TensorFlow."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbam.serving.saved_model import probabilities, write_saved_model
from tests.serving.models import SIZE, classifier, images, predictions

# What a server does with the request of a client, where neither package can be imported.
SERVER = """
import json, sys
sys.modules["keras"] = sys.modules["keras_cbam"] = None
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
request = json.load(sys.stdin)
signature = served.signatures[request["signature_name"]]
(name,) = signature.structured_input_signature[1]
instances = tf.constant(request["instances"], signature.structured_input_signature[1][name].dtype)
operations = {node.op for node in signature.graph.as_graph_def().node}
for function in signature.graph.as_graph_def().library.function:
    operations |= {node.op for node in function.node_def}
    assert "_XlaMustCompile" not in function.attr
outputs = signature(**{name: instances})
parts = [served.serve(instances[:1]), served.serve(instances[1:])]
print(json.dumps({
    "input": name,
    "shape": signature.inputs[0].shape.as_list(),
    "outputs": {key: value.dtype.name for key, value in outputs.items()},
    "predictions": outputs["probabilities"].numpy().tolist(),
    "serve": tf.concat(parts, 0).numpy().tolist(),
    "operations": sorted(operations),
}))
"""


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "1"
    write_saved_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def answer(folder):
    request = {"signature_name": "serving_default", "instances": images(3).tolist()}
    process = subprocess.run(
        [sys.executable, "-c", SERVER, str(folder)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


def test_a_request_without_keras(answer, model):
    assert answer["input"] == "pixels"
    assert answer["shape"] == [None, SIZE, SIZE, 3]
    assert answer["outputs"] == {"probabilities": "float32"}
    expected = predictions(model, images(3))
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-5)
    # In batches of another size.
    np.testing.assert_allclose(answer["serve"], expected, atol=1e-5)


def test_plain_operations(answer):
    assert "Conv2D" in answer["operations"]
    special = ("Xla", "PyFunc", "Eager", "Custom")
    assert not [name for name in answer["operations"] if name.startswith(special)]


@pytest.mark.parametrize(
    ("policy", "end_dtype", "tolerance"),
    [("mixed_float16", "float16", 1e-2), ("mixed_bfloat16", "float32", 5e-2)],
)
def test_mixed_precision(policy, end_dtype, tolerance, tmp_path):
    model = classifier(policy, end_dtype=end_dtype)
    write_saved_model(model, tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1"))
    actual = served.serve(images().astype("float32"))
    assert actual.dtype == tf.float32
    np.testing.assert_allclose(actual, predictions(model, images()), atol=tolerance)


@pytest.mark.parametrize(("activation", "classes"), [("softmax", 5), ("sigmoid", 1)])
def test_an_activation_for_logits(activation, classes):
    serve = probabilities(classifier(activation=None, classes=classes), activation)
    actual = keras.ops.convert_to_numpy(serve(images().astype("float32")))
    expected = predictions(classifier(activation=activation, classes=classes), images())
    np.testing.assert_allclose(actual, expected, atol=1e-5)
