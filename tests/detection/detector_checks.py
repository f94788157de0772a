"""What every detector goes through."""

import subprocess
import sys

import keras
import numpy as np

from keras_cbam.detection import detection_backbone
from tests.detection.networks import BOXES, IMAGES, strided_model

# Loads a detector in a process of its own, and writes what it predicts.
FRESH = """
import sys
import numpy as np
import keras
from keras_cbam.detection import build_detector
model = keras.models.load_model(sys.argv[1])
np.savez(sys.argv[3], **model.predict(np.load(sys.argv[2]), verbose=0))
"""


def backbone(levels, **kwargs):
    return detection_backbone(strided_model(**kwargs), levels)


def check_predictions(predictions, detections, classes, size=64):
    boxes, found = predictions["boxes"], predictions["classes"]
    assert boxes.shape == (2, detections, 4)
    assert found.shape == predictions["confidence"].shape == (2, detections)
    for i, count in enumerate(predictions["num_detections"]):
        assert (found[i, count:] == -1).all()
        assert (boxes[i, count:] == -1).all()
        assert ((found[i, :count] >= 0) & (found[i, :count] < classes)).all()
        # A box apart from those of other classes is put back to within a rounding.
        assert boxes[i, :count].min(initial=0) >= -1e-2
        assert boxes[i, :count].max(initial=0) <= size + 1e-2
        assert (np.diff(predictions["confidence"][i, :count]) <= 0).all()


def check_detector(model, tmp_path, detections, epochs=6, run_eagerly=False):
    """Trains on two images, predicts, and predicts the same after reloading elsewhere."""
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=False, run_eagerly=run_eagerly)
    history = model.fit(IMAGES, BOXES, batch_size=2, epochs=epochs, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert {"box_loss", "classification_loss"} <= set(history)
    evaluated = model.evaluate(IMAGES, BOXES, batch_size=2, verbose=0, return_dict=True)
    assert np.isfinite(list(evaluated.values())).all()
    predictions = model.predict(IMAGES, verbose=0)
    check_predictions(predictions, detections, model.num_classes)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    paths = [str(tmp_path / name) for name in ("model.keras", "images.npy", "found.npz")]
    subprocess.run([sys.executable, "-c", FRESH, *paths], check=True)
    found = np.load(tmp_path / "found.npz")
    for name, values in predictions.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-3, err_msg=name)
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer.iterations == epochs
    uncompiled = keras.models.load_model(tmp_path / "model.keras", compile=False)
    uncompiled.save(tmp_path / "uncompiled.keras")
    alone = keras.models.load_model(tmp_path / "uncompiled.keras")
    for ours, theirs in zip(alone.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert set(again.get_compile_config()) == set(model.get_compile_config())
