"""With real ImageNet weights, where the repository's neighbour `shared` holds them."""

import importlib.util
import pathlib

import numpy as np
import pytest

from keras_cbam import insert_attention

TOOL = pathlib.Path(__file__).parents[3] / "shared" / "tools" / "pretrained_mobilenet_v2.py"


@pytest.mark.slow
@pytest.mark.skipif(not TOOL.exists(), reason="needs ../shared/tools/pretrained_mobilenet_v2.py")
def test_insertion_keeps_the_logits_of_real_photos():
    data = pytest.importorskip("skimage.data")
    spec = importlib.util.spec_from_file_location("pretrained_mobilenet_v2", TOOL)
    pretrained = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pretrained)
    photos = np.stack([pretrained.preprocess(data.chelsea()), pretrained.preprocess(data.coffee())])
    model = pretrained.load()
    logits = model.predict(photos, verbose=0)
    assert logits.argmax(axis=-1).tolist() == [285, 967]
    with_attention = insert_attention(model).predict(photos, verbose=0)
    assert np.max(np.abs(with_attention - logits)) <= 1e-5
    without_identity = insert_attention(model, start_as_identity=False)
    assert np.max(np.abs(without_identity.predict(photos, verbose=0) - logits)) > 1
