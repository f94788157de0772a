"""Attention in keras-hub's RetinaNet, on every backend: as a task, and on a backbone of ours."""

import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest

from keras_cbam import CBAM, attention_backbone, insert_attention
from keras_cbam.detection import detection_backbone
from tests.detection.networks import BOXES, IMAGES
from tests.insertion.test_backbones import keras_hub_backbone

# Of keras-hub, with other backends than TensorFlow.
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
LABELS = {"boxes": BOXES["boxes"], "labels": BOXES["classes"]}
SHAPE = (64, 64, 3)
# Loads a detector in a process of its own, and writes its raw predictions.
FRESH = """
import sys
import keras
import keras_cbam
import keras_hub
import numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
outputs = keras.tree.flatten(model(np.load(sys.argv[2])))
np.savez(sys.argv[3], *map(keras.ops.convert_to_numpy, outputs))
"""


def retinanet(encoder):
    pyramid = keras_hub.models.RetinaNetBackbone(encoder, 3, 5, use_p5=False, image_shape=SHAPE)
    return keras_hub.models.RetinaNetObjectDetector(
        pyramid, num_classes=2, bounding_box_format="xyxy", pre_logits_num_conv_layers=1
    )


def of_keras_hub():
    """RetinaNet on keras-hub's own ResNet, with attention by one line."""
    model = retinanet(keras_hub_backbone())
    return insert_attention(model, start_as_identity=False)


def of_any_model():
    """RetinaNet on a network of `keras.applications` that has attention."""
    network = attention_backbone("MobileNet", weights=None, input_shape=SHAPE, alpha=0.25)
    return retinanet(detection_backbone(network))


@pytest.mark.slow
@pytest.mark.parametrize("build", [of_any_model, of_keras_hub])
def test_retinanet_trains_and_comes_back_in_a_fresh_process(build, tmp_path):
    model = build()
    assert type(model) is keras_hub.models.RetinaNetObjectDetector
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, CBAM)]
    assert layers
    before = [layer.get_weights() for layer in layers]
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    history = model.fit(IMAGES, LABELS, batch_size=2, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for layer, weights in zip(layers, before):
        changed = [np.any(new != old) for new, old in zip(layer.get_weights(), weights)]
        assert any(changed), layer.name
    paths = [str(tmp_path / name) for name in ("model.keras", "images.npy", "found.npz")]
    model.save(paths[0])
    np.save(paths[1], IMAGES)
    subprocess.run([sys.executable, "-c", FRESH, *paths], check=True)
    found = np.load(paths[2])
    outputs = keras.tree.flatten(model(IMAGES))
    assert len(found) == len(outputs) == 2
    for name, expected in zip(found, outputs):
        np.testing.assert_array_equal(found[name], keras.ops.convert_to_numpy(expected))
