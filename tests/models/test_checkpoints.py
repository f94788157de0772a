import json
import os
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam import CBAM, insert_attention
from keras_cbam.errors import CheckpointError
from keras_cbam.models import MobileNet, ResNet, load_pytorch_checkpoint
from keras_cbam.models.checkpoint_files import read_checkpoint
from keras_cbam.models.checkpoint_keys import describe_checkpoint
from keras_cbam.models.checkpoints import model_from_checkpoint
from tests.checks import BACKEND, to_numpy

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

from tests.models import pytorch_networks  # noqa: E402  (needs PyTorch)

SIZE = 64
NETWORKS = [(18, "cbam"), (50, "cbam"), (18, "bam"), (50, "bam"), (18, None)]
SMALL = {"num_classes": 10, "width": 0.25, "stem": "cifar"}


def network(depth, attention, **arguments):
    torch.manual_seed(0)
    return pytorch_networks.randomized(pytorch_networks.ResNet(depth, attention, **arguments))


def small_network(attention="cbam"):
    return network(18, attention, **SMALL)


def small_model(attention="cbam", **arguments):
    arguments = {
        "depth": 18,
        "include_preprocessing": False,
        "classifier_activation": None,
        "input_shape": (32, 32, 3),
        **SMALL,
        **arguments,
    }
    return ResNet(attention=attention, **arguments)


def images(size=SIZE, number=2):
    return np.random.default_rng(0).normal(size=(number, size, size, 3)).astype("float32")


def logits_of(reference, x, training=False):
    reference.train(training)
    with torch.no_grad():
        return reference(torch.from_numpy(x.transpose(0, 3, 1, 2))).numpy()


def assert_same(actual, expected, tolerance=1e-4):
    actual = to_numpy(actual)
    assert np.std(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def weights_of(model):
    return [np.array(weight) for weight in model.get_weights()]


@pytest.fixture(scope="module")
def refusing():
    """A model that is never changed."""
    return small_model()


def assert_refused(model, path, message, **arguments):
    before = weights_of(model)
    with pytest.raises(CheckpointError, match=message):
        load_pytorch_checkpoint(model, path, **arguments)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize(("depth", "attention"), NETWORKS)
def test_logits_are_those_of_pytorch(depth, attention, tmp_path):
    reference = network(depth, attention)
    torch.save({"state_dict": reference.state_dict(), "epoch": 3}, tmp_path / "file.pth")
    model = ResNet(
        depth,
        attention,
        num_classes=10,
        input_shape=(SIZE, SIZE, 3),
        include_preprocessing=False,
        classifier_activation=None,
    )
    assert load_pytorch_checkpoint(model, tmp_path / "file.pth") is model
    x = images()
    assert_same(model(x, training=False), logits_of(reference, x))
    # Of more images: the statistics of two magnify what rounding leaves.
    x = images(number=8)
    before = to_numpy(model.get_layer("bn1").moving_mean)
    assert_same(model(x, training=True), logits_of(reference, x, training=True))
    # The moving mean moves alike. (Of the variance, PyTorch takes the unbiased one.)
    after = to_numpy(model.get_layer("bn1").moving_mean)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, reference.bn1.running_mean.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"cardinality": 8, "base_width": 16}, marks=pytest.mark.slow),
        {"width": 0.5},
        {"stem": "cifar"},
    ],
    ids=str,
)
def test_other_networks(arguments, tmp_path):
    groups = {"groups": arguments["cardinality"]} if "cardinality" in arguments else {}
    rest = {name: value for name, value in arguments.items() if name != "cardinality"}
    reference = network(50 if groups else 18, "cbam", **rest, **groups)
    safetensors.save_file(reference.state_dict(), tmp_path / "file.safetensors")
    model = model_from_checkpoint(
        tmp_path / "file.safetensors",
        include_preprocessing=False,
        classifier_activation=None,
        image_size=SIZE,
    )
    assert_same(model(images()), logits_of(reference, images()))
    described = describe_checkpoint(read_checkpoint(tmp_path / "file.safetensors"))
    assert described == {
        "depth": 50 if groups else 18,
        "attention": "cbam",
        "num_classes": 10,
        **arguments,
    }


def test_timm_has_no_biases(tmp_path):
    reference = small_network("timm")
    torch.save(reference.state_dict(), tmp_path / "timm.pt")
    model = small_model()
    attention = [layer for layer in model.layers if isinstance(layer, CBAM)]
    for layer in attention:
        layer.channel_attention.output_bias.assign(
            np.ones(layer.channel_attention.output_bias.shape)
        )
    with pytest.warns(UserWarning, match="16 biases of the attention .* are set to zero"):
        load_pytorch_checkpoint(model, tmp_path / "timm.pt")
    assert_same(model(images(32)), logits_of(reference, images(32)))


@pytest.mark.parametrize("layout", ["bare", "module", "safetensors", "half", "parameters"])
def test_forms_of_a_file(layout, tmp_path):
    reference = small_network()
    state = reference.state_dict()
    if layout == "module":
        state = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    elif layout == "half":
        state = {
            key: value.bfloat16() if value.is_floating_point() else value
            for key, value in state.items()
        }
        reference.load_state_dict(state)
    elif layout == "parameters":
        # Of the first PyTorch: without the count of batches.
        state = {key: value for key, value in state.items() if not key.endswith("_tracked")}
    path = tmp_path / ("file.safetensors" if layout == "safetensors" else "file.pth")
    if layout == "safetensors":
        safetensors.save_file(state, path)
    else:
        torch.save(state, path)
    model = load_pytorch_checkpoint(small_model(), path)
    assert_same(model(images(32)), logits_of(reference, images(32)))


def test_the_order_of_the_maps_is_the_models(tmp_path):
    reference = small_network()
    torch.save(reference.state_dict(), tmp_path / "file.pth")
    attention = {
        "class_name": "cbam",
        "config": {"use_batch_norm": True, "spatial_pooling": ["max", "avg"]},
    }
    model = load_pytorch_checkpoint(small_model(attention), tmp_path / "file.pth")
    assert_same(model(images(32)), logits_of(reference, images(32)))


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


SPATIAL = "layer2.1.cbam.SpatialGate.spatial"
DAMAGES = {
    "missing": (
        lambda state: without(state, "layer3.0.conv1.weight"),
        r"1 tensors missing from the file: 'layer3.0.conv1.weight'",
    ),
    "more": (
        lambda state: {**state, "layer3.0.extra": torch.ones(1)},
        r"1 tensors of the file without a place in the model: 'layer3.0.extra'",
    ),
    "shape": (
        lambda state: {**state, f"{SPATIAL}.conv.weight": torch.ones(1, 2, 3, 3)},
        r"of another shape: 'layer2.1.*conv.weight' \(1, 2, 3, 3\) for \(1, 2, 7, 7\)",
    ),
    "nan": (
        lambda state: {**state, f"{SPATIAL}.bn.bias": torch.tensor([float("nan")])},
        "1 tensors not finite: 'layer2.1.cbam",
    ),
    "scalar": (lambda state: {**state, "fc.bias": torch.tensor(1.0)}, r"'fc.bias' \(\) for"),
    "scalar kernel": (
        lambda state: {**state, "fc.weight": torch.tensor(1.0)},
        r"'fc.weight' \(\) for .* its tensor 'fc.weight' has the shape \(\)",
    ),
    "empty kernel": (
        lambda state: {**state, "conv1.weight": torch.ones(0, 3, 3, 3)},
        r"its tensor 'conv1.weight' has the shape \(0, 3, 3, 3\)",
    ),
    "twice": (lambda state: {**state, "module.fc.bias": state["fc.bias"]}, "'fc.bias' twice"),
    "count": (
        lambda state: {**state, "nothing.num_batches_tracked": torch.tensor(1)},
        "without a place in the model: 'nothing.num_batches_tracked'",
    ),
    "integers": (
        lambda state: {**state, "fc.bias": torch.ones(10, dtype=torch.int64)},
        "that are not floating-point: 'fc.bias'",
    ),
    "complex": (
        lambda state: {**state, "fc.bias": torch.ones(10, dtype=torch.complex64)},
        "that are not floating-point: 'fc.bias'",
    ),
    "negative variance": (
        lambda state: {**state, "bn1.running_var": -state["bn1.running_var"]},
        "negative variances: 'bn1.running_var'",
    ),
    "sparse": (
        lambda state: {**state, "fc.weight": state["fc.weight"].to_sparse()},
        "no plain tensor under 'fc.weight'",
    ),
    "wrapped": (lambda state: {"model": state}, "so under 'state_dict', received a .*Dict"),
    "a number": (
        lambda state: {**state, "fc.bias": 3},
        "must hold tensors only.* received a int under .fc.bias",
    ),
    "a list": (lambda state: [1, 2], "no dict of tensors"),
    "nothing": (lambda state: {}, "no dict of tensors"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_does_not_fit(damage, message, refusing, tmp_path):
    torch.save(damage(small_network().state_dict()), tmp_path / "file.pth")
    assert_refused(refusing, tmp_path / "file.pth", message)


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_run(refusing, tmp_path):
    state = {"state_dict": small_network().state_dict(), "code": Code(tmp_path / "ran")}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Code(tmp_path / "ran"), protocol=2))
    for name in ("new.pth", "old.pth", "plain.pth"):
        assert_refused(
            small_model(), tmp_path / name, "would run code that is in it, which is refused"
        )
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(part, suffix, refusing, tmp_path):
    state = small_network().state_dict()
    path = tmp_path / f"file{suffix}"
    (torch if suffix == ".pth" else safetensors).__dict__[
        "save" if suffix == ".pth" else "save_file"
    ](state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert_refused(refusing, path, "is damaged")


def test_no_checkpoint_at_all(refusing, tmp_path):
    (tmp_path / "text.pth").write_text("these are no weights\n")
    assert_refused(refusing, tmp_path / "text.pth", "is no PyTorch checkpoint")
    assert_refused(refusing, tmp_path / "nothing.pth", "No such checkpoint file")
    assert_refused(refusing, tmp_path, "No such checkpoint file")


def test_another_network(tmp_path):
    torch.save(small_network().state_dict(), tmp_path / "cbam.pth")
    torch.save(small_network(None).state_dict(), tmp_path / "plain.pth")
    holds = r"The file holds a ResNet\(depth=18, attention='cbam', width=0.25, stem='cifar'"
    assert_refused(small_model(depth=34), tmp_path / "cbam.pth", holds)
    assert_refused(small_model(None), tmp_path / "cbam.pth", holds)
    assert_refused(small_model("bam"), tmp_path / "cbam.pth", holds)
    assert_refused(small_model("se"), tmp_path / "cbam.pth", "'layer1_0_bn2_se/hidden_kernel'")
    assert_refused(small_model(width=0.5), tmp_path / "cbam.pth", holds)
    assert_refused(small_model(), tmp_path / "plain.pth", "tensors missing.*attention=None")
    mobilenet = MobileNet(None, alpha=0.1, num_classes=10, input_shape=(32, 32, 3))
    assert_refused(mobilenet, tmp_path / "plain.pth", holds.replace("'cbam'", "None"))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("bam", {"combine": "add"}),
        ("bam", {"combine": "multiply", "dilation_rate": 2}),
        ("cbam", {"arrangement": "spatial_channel"}),
        ("cbam", {"arrangement": "parallel"}),
        ("cbam", {"residual": True}),
        ("cbam", {"pooling": "avg"}),
        ("cbam", {"gate_activation": "tanh"}),
    ],
    ids=str,
)
def test_attention_of_the_same_shapes_that_computes_otherwise(name, config, tmp_path):
    torch.save(small_network(name).state_dict(), tmp_path / "file.pth")
    if name == "cbam":
        config = {"use_batch_norm": True, **config}
    where = {"class_name": name, "config": config}
    model = small_model(where if name == "cbam" else None)
    if name == "bam":
        ends = [f"layer{stage}_1_relu" for stage in (1, 2, 3)]
        model = insert_attention(model, where, ends, start_as_identity=False)
    assert_refused(model, tmp_path / "file.pth", "attention layers that compute otherwise")


def test_stride_that_a_file_cannot_tell(tmp_path):
    arguments = {"num_classes": 10, "width": 0.25, "stem": "cifar"}
    torch.save(network(50, None, **arguments).state_dict(), tmp_path / "file.pth")
    model = small_model(None, depth=50, stride_in_first_1x1=True)
    with pytest.warns(UserWarning, match="strides in the first 1x1"):
        load_pytorch_checkpoint(model, tmp_path / "file.pth")


def test_the_content_chooses_the_reader(tmp_path):
    state = small_network().state_dict()
    safetensors.save_file(state, tmp_path / "file.pth")
    model = load_pytorch_checkpoint(small_model(), tmp_path / "file.pth")
    kernel = state["conv1.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(to_numpy(model.get_layer("conv1").kernel), kernel)


def test_another_classifier(tmp_path):
    torch.save(small_network().state_dict(), tmp_path / "file.pth")
    model = small_model(num_classes=5)
    assert_refused(model, tmp_path / "file.pth", r"'fc.weight' \(10, 128\) for \(5, 128\)")
    head = [np.array(weight) for weight in model.get_layer("fc").get_weights()]
    with pytest.warns(UserWarning, match="The classifier of .* is not from the checkpoint"):
        load_pytorch_checkpoint(model, tmp_path / "file.pth", skip_head=True)
    for weight, old in zip(model.get_layer("fc").get_weights(), head):
        np.testing.assert_array_equal(weight, old)
    features = small_model(include_top=False)
    assert_refused(features, tmp_path / "file.pth", "without a place in the model: 'fc.weight'")
    load_pytorch_checkpoint(features, tmp_path / "file.pth", skip_head=True)
    np.testing.assert_array_equal(features.get_weights()[0], model.get_weights()[0])


def test_gradients_are_those_of_pytorch():
    from tests.checks import gradients

    torch.manual_seed(0)
    reference = pytorch_networks.randomized(pytorch_networks.CBAM(32)).train()
    layer = CBAM(use_batch_norm=True)
    layer.build((None, 8, 9, 32))
    gate = reference.ChannelGate.mlp
    arrays = [gate[1].weight.T, gate[3].weight.T, gate[1].bias, gate[3].bias]
    layer.channel_attention.set_weights([array.detach().numpy() for array in arrays])
    spatial = reference.SpatialGate.spatial
    kernel = spatial.conv.weight.detach().numpy().transpose(2, 3, 1, 0)[:, :, ::-1]
    layer.spatial_attention.kernel.assign(kernel)
    norm = [spatial.bn.weight, spatial.bn.bias, spatial.bn.running_mean, spatial.bn.running_var]
    layer.spatial_attention.batch_norm.set_weights([array.detach().numpy() for array in norm])
    generator = np.random.default_rng(1)
    x, direction = generator.normal(size=(2, 3, 8, 9, 32)).astype("float32")
    inputs = torch.from_numpy(x.transpose(0, 3, 1, 2)).requires_grad_()
    (reference(inputs) * torch.from_numpy(direction.transpose(0, 3, 1, 2))).sum().backward()
    fixed = [variable.value for variable in layer.non_trainable_variables]

    def loss(inputs, *weights):
        outputs, _ = layer.stateless_call(list(weights), fixed, inputs, training=True)
        return keras.ops.sum(outputs * keras.ops.convert_to_tensor(direction))

    values = [variable.value for variable in layer.trainable_variables]
    of_inputs, *of_weights = gradients(loss, x, *values)
    found = dict(zip([variable.path.split("/", 1)[1] for variable in layer.trainable_variables],
                     of_weights))  # fmt: skip
    expected = {
        "channel_attention/hidden_kernel": gate[1].weight.grad.T,
        "channel_attention/output_kernel": gate[3].weight.grad.T,
        "channel_attention/hidden_bias": gate[1].bias.grad,
        "channel_attention/output_bias": gate[3].bias.grad,
        "spatial_attention/kernel": spatial.conv.weight.grad.permute(2, 3, 1, 0).flip(2),
        "spatial_attention/batch_norm/gamma": spatial.bn.weight.grad,
        "spatial_attention/batch_norm/beta": spatial.bn.bias.grad,
    }
    assert set(found) == set(expected)
    pairs = [(of_inputs, inputs.grad.permute(0, 2, 3, 1))]
    for actual, other in pairs + [(found[name], expected[name]) for name in expected]:
        other = other.numpy()
        assert np.abs(other).max() > 1e-3
        np.testing.assert_allclose(actual, other, rtol=0, atol=1e-4 * np.abs(other).max())


# What a server does that has no PyTorch: it may not even be imported.
SCRIPT = """
import json, sys
sys.modules["torch"] = None
import numpy as np, keras, keras_cbam, tensorflow as tf
folder = sys.argv[1]
pixels = np.load(folder + "/pixels.npy")
model = keras.saving.load_model(folder + "/model.keras")
model.export(folder + "/saved_model", verbose=False)
saved_model = tf.saved_model.load(folder + "/saved_model")
outputs = {"keras": model.predict(pixels, verbose=0), "saved_model": saved_model.serve(pixels)}
np.savez(folder + "/out.npz", **outputs)
"""


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="SavedModel is TensorFlow's")
def test_a_converted_checkpoint_needs_no_pytorch(tmp_path):
    reference = small_network()
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "file.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "pixels.npy", pixels)
    model_from_checkpoint(tmp_path / "file.pth").save(tmp_path / "model.keras")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    mean, deviation = (255 * np.array(values) for values in json.loads(
        "[[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]"))  # fmt: skip
    logits = logits_of(reference, ((pixels - mean) / deviation).astype("float32"))
    expected = torch.softmax(torch.from_numpy(logits), 1).numpy()
    with np.load(tmp_path / "out.npz") as out:
        for name in ("keras", "saved_model"):
            assert_same(out[name], expected)


@pytest.mark.parametrize(
    "package",
    [
        pytest.param(
            "torch", marks=pytest.mark.skipif(BACKEND == "torch", reason="Keras needs it")
        ),
        "safetensors",
    ],
)
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    path = tmp_path / ("file.pth" if package == "torch" else "file.safetensors")
    path.write_bytes(b"x")
    for name in [name for name in sys.modules if name.split(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install keras_cbam\[torch\]"):
        load_pytorch_checkpoint(small_model(), path)
