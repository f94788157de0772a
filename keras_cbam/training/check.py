"""Run as a fresh process: loads a run's artefacts and prints how far their predictions are off."""

import json
import sys

import keras
import numpy as np

import keras_cbam  # noqa: F401  (registers the layers)
from keras_cbam.serving.runtimes import load_artefact


def largest_differences(folder, sample_file):
    """`{artefact: largest absolute difference}` of predictions, for a folder and an npz sample."""
    with np.load(sample_file) as arrays:
        sample, expected = arrays["sample"], arrays["expected"]
    keras_model = keras.models.load_model(f"{folder}/model.keras")
    serve = load_artefact("saved_model", f"{folder}/saved_model")
    predictions = {
        "model.keras": keras_model.predict(sample, verbose=0),
        "saved_model": serve(sample.astype("float32")),
    }
    return {
        name: float(np.max(np.abs(prediction - expected)))
        for name, prediction in predictions.items()
    }


if __name__ == "__main__":
    print(json.dumps(largest_differences(*sys.argv[1:])))
