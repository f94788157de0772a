import subprocess
import sys

import keras
import keras_cv
import numpy as np
import pytest

from keras_cbam import insert_attention
from keras_cbam.detection import detection_backbone
from tests.detection.networks import BOXES, PICTURES, strided_model


def retinanet(backbone):
    model = keras_cv.models.RetinaNet(backbone, num_classes=2, bounding_box_format="xyxy")
    model.compile(
        optimizer="sgd", box_loss="smoothl1", classification_loss="focal", jit_compile=False
    )
    return model


def yolo(backbone):
    model = keras_cv.models.YOLOV8Detector(
        backbone, num_classes=2, bounding_box_format="xyxy", fpn_depth=1
    )
    # Eagerly, because its graph takes TensorFlow forty seconds for any backbone.
    model.compile(
        optimizer="sgd",
        box_loss="ciou",
        classification_loss="binary_crossentropy",
        run_eagerly=True,
    )
    return model


def deeplab(backbone):
    model = keras_cv.models.DeepLabV3Plus(backbone, num_classes=2)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return model


TARGETS = {"retinanet": BOXES, "yolo": BOXES, "deeplab": np.zeros((2, 64, 64, 1))}


# RetinaNet names its input, and is given pictures without that name by keras_cv.
@pytest.mark.filterwarnings(
    "ignore:Exception encountered when calling (RetinaNet|Functional).call:UserWarning"
)
@pytest.mark.parametrize("build", [retinanet, yolo, deeplab])
def test_detectors_train_and_come_back_in_a_fresh_process(build, tmp_path):
    model = insert_attention(strided_model(), where="relu$", start_as_identity=False)
    detector = build(detection_backbone(model, levels=(2, 3, 4, 5)))
    gate = "stage5_relu_cbam"
    before = [np.array(v) for v in detector.backbone.get_layer(gate).trainable_variables]
    history = detector.fit(PICTURES, TARGETS[build.__name__], epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = detector.backbone.get_layer(gate).trainable_variables
    assert any(np.any(np.asarray(new) != old) for new, old in zip(after, before, strict=True))
    predictions = keras.tree.flatten(detector.predict(PICTURES, verbose=0))
    detector.save(tmp_path / "detector.keras")
    np.savez(tmp_path / "arrays.npz", PICTURES, *predictions)
    code = (
        "import keras, keras_cbam, numpy as np\n"
        f"folder = {str(tmp_path)!r}\n"
        "arrays = np.load(folder + '/arrays.npz')\n"
        "arrays = [arrays[f'arr_{i}'] for i in range(len(arrays.files))]\n"
        "model = keras.models.load_model(folder + '/detector.keras', compile=False)\n"
        "ours = keras.tree.flatten(model.predict(arrays[0], verbose=0))\n"
        "for new, old in zip(ours, arrays[1:], strict=True):\n"
        "    np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-3)\n"
        f"assert model.backbone.get_layer({gate!r}).__class__.__name__ == 'CBAM'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
