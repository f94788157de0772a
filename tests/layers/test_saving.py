import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam import BAM, CBAM, ChannelAttention, SpatialAttention
from tests.checks import BACKEND, random_input, randomize, to_numpy

ROOT = pathlib.Path(__file__).parents[2]

# What a user's own program does with the files: it imports the package and nothing of the tests.
SCRIPT = """
import pathlib, sys
import numpy as np
import keras
import keras_cbam

def to_numpy(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))

folder = pathlib.Path(sys.argv[1])
for inputs in sorted(folder.glob("*.npy")):
    name = inputs.stem
    x = np.load(inputs)
    model = keras.saving.load_model(folder / f"{name}.keras")
    results = {"keras": model(x)}
    fresh = keras.models.model_from_json((folder / f"{name}.json").read_text())
    fresh.load_weights(folder / f"{name}.weights.h5")
    results["weights"] = fresh(x)
    if (folder / name).exists():
        served = keras.layers.TFSMLayer(folder / name, call_endpoint="serve")
        results["saved_model"] = served(x)
    np.savez(folder / f"{name}.npz", **{key: to_numpy(value) for key, value in results.items()})
print(sorted(set(sys.modules) & {"tests", "pytest"}))
"""


def chain(dtype):
    """Layers of every kind one after the other; one of them takes axis 1 for its channels."""
    layers = [
        ChannelAttention(reduction_ratio=2, pooling=("avg", "max", "lp", "lse")),
        ChannelAttention(data_format="channels_first", use_bias=False, activation="tanh"),
        SpatialAttention(3, ("conv", "max", "avg"), use_batch_norm=True, use_bias=True),
        CBAM(arrangement="parallel", start_as_identity=True, gate_activation="tanh"),
        CBAM(arrangement="spatial_channel", residual=True, use_batch_norm=True),
        CBAM(arrangement="spatial", spatial_pooling="conv"),
        CBAM(arrangement="channel"),
        BAM(combine="multiply", dilation_rate=2),
    ]
    inputs = outputs = keras.Input((6, None, 8))
    for i, layer in enumerate(layers):
        config = layer.get_config()
        layer = type(layer).from_config({**config, "dtype": dtype, "name": f"attention_{i}"})
        outputs = layer(outputs)
        randomize(layer, seed=i)
    return keras.Model(inputs, outputs)


@pytest.mark.filterwarnings(
    # TensorFlow's own, while it writes the SavedModel.
    "ignore:.*:DeprecationWarning:tensorflow.*"
)
def test_files_in_a_fresh_process(tmp_path):
    expected = {}
    for dtype in ("float32", "mixed_float16"):
        model = chain(dtype)
        x = random_input((3, 6, 5, 8))
        expected[dtype] = to_numpy(model(x))
        np.save(tmp_path / f"{dtype}.npy", x)
        model.save(tmp_path / f"{dtype}.keras")
        model.save_weights(tmp_path / f"{dtype}.weights.h5")
        (tmp_path / f"{dtype}.json").write_text(model.to_json())
        if BACKEND == "tensorflow" and dtype == "float32":
            model.export(tmp_path / dtype, format="tf_saved_model", verbose=False)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == []
    for dtype, values in expected.items():
        assert np.abs(values).max() > 0.1
        with np.load(tmp_path / f"{dtype}.npz") as results:
            saved_model = BACKEND == "tensorflow" and dtype == "float32"
            assert set(results) == {"keras", "weights", *["saved_model"] * saved_model}
            for name, actual in results.items():
                np.testing.assert_allclose(
                    actual,
                    values,
                    rtol=0,
                    atol=(1e-6 if dtype == "float32" else 1e-3) * np.abs(values).max(),
                    err_msg=f"{dtype} {name}",
                )


@pytest.mark.parametrize("layer_class", [ChannelAttention, SpatialAttention, CBAM, BAM])
@pytest.mark.parametrize("combine", ["add", "multiply"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_legacy_h5_files(layer_class, combine, tmp_path):
    """Keras' loader of them turns strings that name a function, such as "add", into functions."""
    arguments = {"combine": combine, "gate_activation": "tanh"} if layer_class is BAM else {}
    layer = layer_class(**arguments)
    model = keras.Sequential([keras.Input((6, 5, 8)), layer])
    randomize(layer)
    model.save(tmp_path / "model.h5")
    copy = keras.saving.load_model(tmp_path / "model.h5", compile=False)
    assert copy.layers[-1].get_config() == layer.get_config()
    x = random_input((2, 6, 5, 8))
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(model(x)))
