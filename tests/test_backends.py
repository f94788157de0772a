"""A model saved under one backend predicts the same under the others."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention, insert_attention

ROOT = pathlib.Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")
SHAPE = (9, 8, 8)
# (layer, arguments)
LAYERS = {
    "cbam": (CBAM, {"start_as_identity": True, "use_batch_norm": True}),
    "parallel": (CBAM, {"arrangement": "parallel", "start_as_identity": True}),
    "residual": (CBAM, {"residual": True, "arrangement": "spatial_channel"}),
    "pools": (CBAM, {"pooling": ("lp", "lse"), "reduction_ratio": 2}),
    "one_gate": (CBAM, {"arrangement": "spatial", "spatial_pooling": "conv"}),
    "channel": (ChannelAttention, {"pooling": ("avg", "max", "lp", "lse"), "use_bias": False}),
    "spatial": (SpatialAttention, {"pooling": ("conv", "avg"), "use_bias": True}),
    "bam": (BAM, {"dilation_rate": 2}),
    "bam_multiply": (BAM, {"combine": "multiply", "start_as_identity": True}),
}
FORMATS = ("channels_last", "channels_first")


def residual_network():
    """Two bottlenecks of a ResNet, with attention in them."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    for block in range(2):
        y = keras.layers.Conv2D(8, 3, padding="same", name=f"block{block}_conv")(x)
        y = keras.layers.BatchNormalization(name=f"block{block}_norm")(y)
        x = keras.layers.ReLU()(keras.layers.Add(name=f"block{block}_add")([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x))
    return insert_attention(model, where=".*_norm", start_as_identity=True)


def every_layer():
    """A model with an output for each layer and data format: compiled once, as JAX is slow there.

    Every weight is set later: that of an initializer would be compiled too.
    """
    inputs = keras.Input(SHAPE)
    outputs = {
        f"{name} {data_format}": layer_class(
            data_format=data_format, kernel_initializer="zeros", **arguments
        )(inputs)
        for name, (layer_class, arguments) in LAYERS.items()
        for data_format in FORMATS
    }
    return keras.Model(inputs, outputs)


def randomized(model):
    generator = np.random.default_rng(len(model.weights))
    for weight in model.weights:
        values = 0.3 * generator.normal(size=weight.shape)
        if weight.name == "moving_variance":
            values = np.abs(values) + 0.5
        weight.assign(values.astype("float32"))
    return model


def predictions(model):
    """`{name: array}`; the inserted network has one output."""
    x = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    outputs = model.predict(x, verbose=0)
    return outputs if isinstance(outputs, dict) else {"inserted": outputs}


def write(folder):
    expected = {}
    for name, model in (("layers", every_layer()), ("network", residual_network())):
        expected |= predictions(randomized(model))
        model.save(folder / f"{name}.keras")
    np.savez(folder / "expected.npz", **expected)


def read(folder, reader):
    """The files of every writer, as this backend computes them."""
    compiled = {}
    for writer in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = {}
        for path in writer.glob("*.keras"):
            model = keras.saving.load_model(path, compile=False)
            # One model computes all three, as each would be compiled anew.
            first = compiled.setdefault(path.name, model)
            assert model.to_json() == first.to_json()
            first.set_weights(model.get_weights())
            found |= predictions(first)
        np.savez(writer / f"{reader}.npz", **found)


def run(job, backend, folder):
    process = subprocess.run(
        [sys.executable, "-m", "tests.test_backends", job, str(folder)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What each installed backend wrote, and what each read of it."""
    folder = tmp_path_factory.mktemp("backends")
    present = [name for name in BACKENDS if importlib.util.find_spec(name)]
    for writer in present:
        (folder / writer).mkdir()
        run("write", writer, folder / writer)
    for reader in present:
        run("read", reader, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("reader", BACKENDS)
@pytest.mark.parametrize("writer", BACKENDS)
def test_predictions_of_another_backend(writer, reader, folder):
    for name in (writer, reader):
        if not importlib.util.find_spec(name):
            pytest.skip(f"{name} is not installed")
    with (
        np.load(folder / writer / "expected.npz") as expected,
        np.load(folder / writer / f"{reader}.npz") as found,
    ):
        assert set(found) == set(expected)
        assert len(expected.files) == len(LAYERS) * len(FORMATS) + 1
        for name, values in expected.items():
            assert np.abs(values).max() > 0.05
            scale = max(1, np.abs(values).max())
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5 * scale, err_msg=name)


if __name__ == "__main__":
    job, target = sys.argv[1], pathlib.Path(sys.argv[2])
    if job == "write":
        write(target)
    else:
        read(target, keras.backend.backend())
