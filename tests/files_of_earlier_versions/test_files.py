"""Files that earlier versions wrote load, and predict what they predicted then."""

import pathlib
import zipfile

import keras
import numpy as np
import pytest

from tests.checks import BACKEND, to_numpy
from tests.files_of_earlier_versions.write import image_model, sequence_model, write

FOLDER = pathlib.Path(__file__).parent


@pytest.mark.parametrize("version", sorted(path.stem for path in FOLDER.glob("*.zip")))
@pytest.mark.parametrize("build", [image_model, sequence_model])
def test_loads_and_predicts_the_same(build, version, tmp_path):
    with zipfile.ZipFile(FOLDER / f"{version}.zip") as archive:
        archive.extractall(tmp_path)
    name = build.__name__
    with np.load(tmp_path / f"{name}.npz") as arrays:
        inputs, expected = arrays["inputs"], arrays["outputs"]
    fresh = build()
    fresh.load_weights(tmp_path / f"{name}.weights.h5")
    models = [keras.saving.load_model(tmp_path / f"{name}.keras"), fresh]
    if BACKEND == "tensorflow":
        models.append(keras.layers.TFSMLayer(tmp_path / f"{name}_served", call_endpoint="serve"))
    assert np.abs(expected - inputs).max() > 0.1
    for model in models:
        outputs = to_numpy(model(inputs))
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow writes a SavedModel")
def test_the_next_version_s_files_can_be_written(tmp_path):
    write(tmp_path / "next.zip")
    with (
        zipfile.ZipFile(tmp_path / "next.zip") as new,
        zipfile.ZipFile(FOLDER / "0.1.0.zip") as old,
    ):
        assert set(new.namelist()) == set(old.namelist())
