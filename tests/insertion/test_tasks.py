"""Tasks of keras_hub and keras_cv stay tasks: attention goes into their backbone."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import find_sites, insert_attention, remove_attention
from tests.insertion.test_backbones import IMAGES, keras_cv_backbone, keras_hub_backbone

# Of the libraries, on PyTorch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
    pytest.mark.filterwarnings("ignore:(?s).*The structure of `inputs` doesn't match"),
]
PIXELS = 255 * IMAGES
MODELS = [
    "image_classifier",
    "retinanet",
    "deeplab",
    pytest.param("keras_cv_classifier", marks=pytest.mark.slow),
    pytest.param("keras_cv_retinanet", marks=pytest.mark.slow),
]


def task(name):
    """A small task of random weights, its convolution `conv1_conv` frozen."""
    if name.startswith("keras_cv"):
        backbone = keras_cv_backbone()
        from keras_cv import models

        if name == "keras_cv_retinanet":
            return models.RetinaNet(num_classes=2, bounding_box_format="xyxy", backbone=backbone)
        return models.ImageClassifier(backbone=backbone, num_classes=3)
    backbone = keras_hub_backbone()
    from keras_hub import layers, models

    backbone.get_layer("conv1_conv").trainable = False
    if name == "image_classifier":
        converter = layers.ResNetImageConverter(image_size=(64, 64), scale=1 / 100, offset=-1.0)
        return models.ResNetImageClassifier(
            backbone,
            num_classes=3,
            preprocessor=models.ResNetImageClassifierPreprocessor(converter),
        )
    shape = {"image_shape": (64, 64, 3)}
    if name == "retinanet":
        return models.RetinaNetObjectDetector(
            models.RetinaNetBackbone(backbone, 3, 5, use_p5=False, **shape),
            num_classes=2,
            bounding_box_format="xyxy",
            pre_logits_num_conv_layers=1,
        )
    encoder = models.DeepLabV3Backbone(
        backbone,
        spatial_pyramid_pooling_key="P5",
        low_level_feature_key="P2",
        upsampling_size=8,
        dilation_rates=[6, 12],
        **shape,
    )
    return models.DeepLabV3ImageSegmenter(encoder, num_classes=2)


def difference(first, second):
    """The largest difference of two nests of tensors."""
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    pairs = [map(ops.convert_to_numpy, pair) for pair in pairs]
    return max(float(np.max(np.abs(ours - theirs))) for ours, theirs in pairs)


@pytest.mark.parametrize("name", MODELS)
def test_the_task_comes_back_with_attention_in_its_backbone(name, tmp_path):
    model = task(name)
    copy = insert_attention(model)
    assert type(copy) is type(model)
    assert copy.name == model.name
    assert find_sites(model) == find_sites(model.backbone)
    assert copy.backbone.count_params() > model.backbone.count_params()
    outside = len(model.variables) - len(model.backbone.variables)
    assert len(copy.variables) - len(copy.backbone.variables) == outside
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    assert difference(copy(PIXELS), model(PIXELS)) == 0
    assert difference(remove_attention(copy)(PIXELS), model(PIXELS)) == 0
    copy.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert type(loaded) is type(model)
    assert difference(loaded(PIXELS), copy(PIXELS)) == 0


def test_predictions_with_the_preprocessor_and_flags_are_kept():
    model = task("image_classifier")
    model.output_dense.bias.trainable = False
    copy = insert_attention(model)
    assert difference(copy.predict(PIXELS, verbose=0), model.predict(PIXELS, verbose=0)) == 0
    assert difference(model.predict(PIXELS, verbose=0), model(PIXELS)) > 0.1
    assert copy.preprocessor is not model.preprocessor
    assert not copy.output_dense.bias.trainable
    frozen = [layer.name for layer in copy.backbone.layers if not layer.trainable]
    assert frozen == ["conv1_conv"]
    model.backbone.trainable = False
    new = [v.path for v in insert_attention(model).trainable_variables]
    assert len(new) == len(find_sites(model)) * 7 + 1


def test_a_task_inside_a_model():
    model = task("image_classifier")
    inputs = keras.Input((64, 64, 3))
    whole = keras.Model(inputs, keras.layers.Softmax()(model(inputs)))
    copy = insert_attention(whole)
    assert find_sites(whole) == [f"{model.name}/{site}" for site in find_sites(model)]
    assert type(copy.get_layer(model.name)) is type(model)
    assert difference(copy(PIXELS), whole(PIXELS)) == 0


@pytest.mark.slow
def test_a_task_trains_and_is_reloaded_in_a_fresh_process(tmp_path):
    model = insert_attention(task("image_classifier"))
    model.fit(PIXELS, np.array([0, 1]), verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "arrays.npz", pixels=PIXELS, outputs=model.predict(PIXELS, verbose=0))
    code = (
        "import keras, keras_cbam, numpy as np\n"
        f"folder = {str(tmp_path)!r}\n"
        "arrays = np.load(folder + '/arrays.npz')\n"
        "import keras_hub\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "outputs = model.predict(arrays['pixels'], verbose=0)\n"
        "np.testing.assert_array_equal(outputs, arrays['outputs'])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
