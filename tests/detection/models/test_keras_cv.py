"""keras-cv stays supported: `detection_backbone` gives backbones for its detectors."""

import subprocess
import sys

import numpy as np
import pytest

from keras_cbam import CBAM, insert_attention
from keras_cbam.detection import SSD, detection_backbone, load_detector, loading
from tests.detection.networks import BOXES, IMAGES, strided_model

keras_cv = pytest.importorskip("keras_cv", reason="needs keras_cbam[keras-cv]")


# RetinaNet names its input, and is given images without that name by keras_cv.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning")
def test_retinanet_trains_and_comes_back_in_a_fresh_process(tmp_path):
    network = insert_attention(strided_model(), where="stage[35]_relu", start_as_identity=False)
    backbone = detection_backbone(network, library="keras_cv")
    assert isinstance(backbone, keras_cv.models.Backbone)
    assert backbone.pyramid_level_inputs == {"P3": "P3", "P4": "P4", "P5": "P5"}
    model = keras_cv.models.RetinaNet(backbone, num_classes=2, bounding_box_format="xyxy")
    losses = {"box_loss": "smoothl1", "classification_loss": "focal"}
    model.compile(optimizer="sgd", run_eagerly=True, **losses)
    attention = model.backbone.get_layer("stage5_relu_cbam")
    before = attention.get_weights()
    assert np.isfinite(model.fit(IMAGES, BOXES, epochs=1, verbose=0).history["loss"]).all()
    assert any(np.any(new != old) for new, old in zip(attention.get_weights(), before))
    assert len(model.predict(IMAGES, verbose=0)["boxes"]) == 2
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    np.savez(tmp_path / "expected.npz", **model(IMAGES))
    code = (
        "import keras, keras_cbam, numpy as np\n"
        f"folder = {str(tmp_path)!r}\n"
        "expected = np.load(folder + '/expected.npz')\n"
        "model = keras.models.load_model(folder + '/model.keras', compile=False)\n"
        "for name, found in model(np.load(folder + '/images.npy')).items():\n"
        "    np.testing.assert_array_equal(found, expected[name])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_with_its_backbone_says_what_it_needs(tmp_path, monkeypatch):
    backbone = detection_backbone(strided_model(), (3, 4), library="keras_cv")
    model = SSD(backbone, 2, "cbam", extra_filters=())
    model.save(tmp_path / "model.keras")
    again, _ = load_detector(tmp_path / "model.keras")
    assert isinstance(again.head.get_layer("source_1_cbam"), CBAM)
    for name, expected in model(IMAGES).items():
        np.testing.assert_array_equal(again(IMAGES)[name], expected)

    def missing(name, extra):
        raise ImportError(f"{name} of keras_cbam[{extra}]")

    monkeypatch.setattr(loading, "library", missing)
    with pytest.raises(ImportError, match=r"keras_cv of keras_cbam\[keras-cv\]"):
        load_detector(tmp_path / "model.keras")
