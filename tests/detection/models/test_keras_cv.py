import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam import insert_attention
from keras_cbam.detection import (
    build_detector,
    compile_detector,
    detection_backbone,
    load_detector,
    loading,
)
from keras_cbam.errors import ModelError
from tests.detection.networks import BOXES, PICTURES, strided_model

keras_cv = pytest.importorskip("keras_cv", reason="needs keras_cbam[keras-cv]")

# They run eagerly: of any backbone, TensorFlow takes forty seconds for the graph of YOLOV8Detector.


def retinanet(backbone):
    model = keras_cv.models.RetinaNet(backbone, num_classes=2, bounding_box_format="xyxy")
    model.compile(
        optimizer="sgd", box_loss="smoothl1", classification_loss="focal", run_eagerly=True
    )
    return model


def yolo(backbone):
    model = keras_cv.models.YOLOV8Detector(
        backbone, num_classes=2, bounding_box_format="xyxy", fpn_depth=1
    )
    model.compile(
        optimizer="sgd",
        box_loss="ciou",
        classification_loss="binary_crossentropy",
        run_eagerly=True,
    )
    return model


def deeplab(backbone):
    model = keras_cv.models.DeepLabV3Plus(backbone, num_classes=2)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


TARGETS = {"retinanet": BOXES, "yolo": BOXES, "deeplab": np.zeros((2, 64, 64, 1))}


# RetinaNet names its input, and is given pictures without that name by keras_cv.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning")
def test_detectors_train_and_come_back_in_a_fresh_process(tmp_path):
    model = insert_attention(strided_model(), where="stage[35]_relu", start_as_identity=False)
    gate = "stage5_relu_cbam"
    arrays = {"pictures": PICTURES}
    for build in (retinanet, yolo, deeplab):
        name = build.__name__
        detector = build(detection_backbone(model, (2, 3, 4, 5), "keras_cv"))
        attention = detector.backbone.get_layer(gate)
        before = attention.get_weights()
        history = detector.fit(PICTURES, TARGETS[name], epochs=1, verbose=0).history
        assert np.isfinite(history["loss"]).all(), name
        after = attention.get_weights()
        assert any(np.any(new != old) for new, old in zip(after, before, strict=True)), name
        predictions = detector.predict(PICTURES, verbose=0)
        assert {len(array) for array in keras.tree.flatten(predictions)} == {2}, name
        detector.save(tmp_path / f"{name}.keras")
        for index, array in enumerate(keras.tree.flatten(detector(PICTURES))):
            arrays[f"{name}/{index}"] = array
    np.savez(tmp_path / "arrays.npz", **arrays)
    code = (
        "import keras, keras_cbam, numpy as np\n"
        f"folder = {str(tmp_path)!r}\n"
        "arrays = np.load(folder + '/arrays.npz')\n"
        "for name in ('retinanet', 'yolo', 'deeplab'):\n"
        "    model = keras.models.load_model(f'{folder}/{name}.keras', compile=False)\n"
        "    for index, new in enumerate(keras.tree.flatten(model(arrays['pictures']))):\n"
        "        old = arrays[f'{name}/{index}']\n"
        "        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-4)\n"
        f"    assert model.backbone.get_layer({gate!r}).__class__.__name__ == 'CBAM'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["retinanet", "yolov8"])
def test_they_suppress_within_classes_as_ours(name, tmp_path, monkeypatch):
    model = build_detector(name, num_classes=2, image_size=64)
    compile_detector(model, "adam")
    boxes = np.array([[[0, 0, 20, 20], [1, 1, 20, 20], [40, 40, 60, 60]]], "float32")
    confidence = np.array([[[0.9, 0.1], [0.6, 0.8], [0.02, 0.001]]], "float32")
    if model.prediction_decoder.from_logits:
        confidence = np.log(confidence / (1 - confidence))
    found = model.prediction_decoder(boxes, confidence)
    assert np.asarray(found["classes"])[0, :4].tolist() == [0, 1, 0, -1]
    np.testing.assert_allclose(np.asarray(found["confidence"])[0, :3], [0.9, 0.8, 0.02], rtol=1e-4)
    model.save(tmp_path / "model.keras")
    again, _ = load_detector(tmp_path / "model.keras")
    assert again.prediction_decoder.from_logits == (name == "retinanet")

    def missing(*_):
        raise ImportError("no module")

    monkeypatch.setattr(loading, "library", missing)
    with pytest.raises(ModelError, match=r"has parts of keras-cv: .*keras_cbam\[keras-cv\]"):
        load_detector(tmp_path / "model.keras")
