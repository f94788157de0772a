"""Backbones of keras_cv and keras_hub stay backbones."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, find_sites, insert_attention, remove_attention
from keras_cbam.insertion.backbones import GraphBackbone

IMAGES = np.random.default_rng(0).uniform(0, 1, size=(2, 64, 64, 3)).astype("float32")
STACKS = {"stackwise_num_blocks": [1] * 4, "stackwise_num_strides": [1, 2, 2, 2]}


def keras_cv_backbone():
    keras_cv = pytest.importorskip("keras_cv", reason="needs keras_cv")
    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 8, 8, 8],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        block_type="basic_block",
        include_rescaling=False,
        input_shape=(64, 64, 3),
    )


def keras_hub_backbone():
    keras_hub = pytest.importorskip("keras_hub", reason="needs keras_hub")
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 8, 8, 8],
        block_type="basic_block",
        image_shape=(64, 64, 3),
        **STACKS,
    )


def level_layers(backbone):
    """`{level: name of the layer that puts it out}`."""
    if hasattr(backbone, "pyramid_level_inputs"):
        return dict(backbone.pyramid_level_inputs)
    outputs = backbone.pyramid_outputs
    return {level: tensor._keras_history.operation.name for level, tensor in outputs.items()}


def levels(backbone):
    outputs = [backbone.get_layer(name).output for name in level_layers(backbone).values()]
    return [ops.convert_to_numpy(x) for x in keras.Model(backbone.input, outputs)(IMAGES)]


def saved_and_loaded(model, folder, **arguments):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras", **arguments)


@pytest.mark.parametrize("build", [keras_cv_backbone, keras_hub_backbone])
def test_copies_are_backbones_of_the_same_class(build, tmp_path):
    backbone = build()
    backbone.get_layer("conv1_bn").trainable = False
    with_attention = insert_attention(backbone)
    for copy in (
        with_attention,
        remove_attention(with_attention),
        saved_and_loaded(with_attention, tmp_path),
    ):
        assert isinstance(copy, type(backbone))
        assert copy.name == backbone.name
        assert level_layers(copy) == level_layers(backbone)
        assert [layer.name for layer in copy.layers if not layer.trainable] == ["conv1_bn"]
        assert copy.trainable
        for ours, theirs in zip(levels(copy), levels(backbone), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert isinstance(with_attention, GraphBackbone)
    assert [layer.name for layer in with_attention.layers if isinstance(layer, CBAM)] == [
        f"{site}_cbam" for site in find_sites(backbone)
    ]
    assert not {id(v) for v in with_attention.variables} & {id(v) for v in backbone.variables}


@pytest.mark.parametrize("build", [keras_cv_backbone, keras_hub_backbone])
def test_levels_have_attention_where_it_is_last(build):
    backbone = build()
    names = level_layers(backbone)
    with_attention = insert_attention(backbone, where=list(names.values()), start_as_identity=False)
    assert level_layers(with_attention) == {level: f"{name}_cbam" for level, name in names.items()}
    assert level_layers(remove_attention(with_attention)) == names
    twice = insert_attention(with_attention, "se", where=".*_(cbam|out)")
    assert level_layers(twice)["P3"].endswith("_cbam")


@pytest.mark.parametrize("build", [keras_cv_backbone, keras_hub_backbone])
def test_nested_and_frozen_backbones(build, tmp_path):
    backbone = build()
    backbone.trainable = False
    inputs = keras.Input((64, 64, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(backbone(inputs)))
    with_attention = insert_attention(model)
    nested = saved_and_loaded(with_attention, tmp_path).layers[1]
    assert isinstance(nested, type(backbone))
    assert level_layers(nested) == level_layers(backbone)
    assert len(nested.trainable_variables) == 7 * len(find_sites(backbone))
    assert not any(layer.trainable_weights for layer in nested.layers if layer.name[-4:] != "cbam")
    ours, theirs = (ops.convert_to_numpy(each(IMAGES)) for each in (with_attention, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [keras_cv_backbone, keras_hub_backbone])
def test_arguments_and_policy_are_kept(build, dtype_policy):
    dtype_policy("mixed_bfloat16")
    backbone = build()
    dtype_policy("float32")
    with_attention = remove_attention(
        insert_attention(insert_attention(backbone), "se", where=".*_1_relu")
    )
    assert with_attention.dtype_policy.name == backbone.dtype_policy.name
    assert with_attention.block_type == "basic_block"
    if hasattr(backbone, "image_shape"):
        assert with_attention.image_shape == (64, 64, 3)


@pytest.mark.slow
def test_reloaded_in_a_fresh_process(tmp_path):
    arrays = {"images": IMAGES}
    for library, build in (("keras_cv", keras_cv_backbone), ("keras_hub", keras_hub_backbone)):
        with_attention = insert_attention(build(), start_as_identity=False)
        with_attention.save(tmp_path / f"{library}.keras")
        arrays[library] = ops.convert_to_numpy(with_attention(IMAGES))
    np.savez(tmp_path / "arrays.npz", **arrays)
    code = (
        "import sys, keras, keras_cbam, numpy as np\n"
        f"folder = {str(tmp_path)!r}\n"
        "arrays = np.load(folder + '/arrays.npz')\n"
        "for library in ('keras_cv', 'keras_hub'):\n"
        "    assert library not in sys.modules\n"
        "    model = keras.models.load_model(f'{folder}/{library}.keras')\n"
        "    assert isinstance(model, sys.modules[library].models.Backbone)\n"
        "    ours = keras.ops.convert_to_numpy(model(arrays['images']))\n"
        "    np.testing.assert_allclose(ours, arrays[library], rtol=1e-5, atol=1e-5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_that_is_missing(monkeypatch):
    config = insert_attention(keras_cv_backbone()).get_config()
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ImportError, match="a ResNetBackbone of keras_cv, which cannot be imported"):
        GraphBackbone.from_config(config)


def test_a_class_that_is_not_known():
    config = insert_attention(keras_cv_backbone()).get_config()
    for kind in ("other>Backbone", "keras_cbam>CBAM"):
        with pytest.raises(ValueError, match=f"is not known.*Received: kind='{kind}'"):
            GraphBackbone.from_config({**config, "kind": kind})


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="detection is TensorFlow's")
def test_keras_hub_detector_on_a_backbone_with_attention(tmp_path):
    encoder = insert_attention(keras_hub_backbone(), start_as_identity=False)
    from keras_hub.models import RetinaNetBackbone, RetinaNetObjectDetector

    levels = {"min_level": 3, "max_level": 5, "use_p5": False, "image_shape": (64, 64, 3)}
    detector = RetinaNetObjectDetector(
        RetinaNetBackbone(encoder, **levels),
        num_classes=2,
        bounding_box_format="xyxy",
        pre_logits_num_conv_layers=1,
    )
    detector.compile("sgd", run_eagerly=True)
    gate = encoder.get_layer("stack3_block0_2_bn_cbam")
    before = gate.get_weights()
    boxes = np.array([[[8, 8, 40, 40]], [[0, 0, 64, 32]]], "float32")
    targets = {"boxes": boxes, "labels": np.array([[0], [1]], "float32")}
    history = detector.fit(IMAGES, targets, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()
    assert any(np.any(new != old) for new, old in zip(gate.get_weights(), before, strict=True))
    assert set(detector.predict(IMAGES, verbose=0)) >= {"boxes", "labels", "confidence"}
    loaded = saved_and_loaded(detector, tmp_path, compile=False)
    assert isinstance(loaded.backbone.image_encoder, type(encoder))
    for ours, theirs in zip(loaded(IMAGES).values(), detector(IMAGES).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_insertion_into_a_keras_hub_pyramid(tmp_path):
    encoder = keras_hub_backbone()
    from keras_hub.models import RetinaNetBackbone

    plain = RetinaNetBackbone(encoder, 3, 5, use_p5=False, image_shape=(64, 64, 3))
    with_attention = insert_attention(plain)
    for copy in (with_attention, saved_and_loaded(with_attention, tmp_path)):
        assert isinstance(copy, RetinaNetBackbone)
        assert (copy.min_level, copy.max_level, copy.use_p5) == (3, 5, False)
        assert copy.count_params() > plain.count_params()
        expected = plain(IMAGES)
        for level, output in copy(IMAGES).items():
            ours, theirs = map(ops.convert_to_numpy, (output, expected[level]))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_attributes_of_others_are_refused():
    with_attention = insert_attention(keras_cv_backbone())
    config = with_attention.get_config()
    config["arguments"] = {**config["arguments"], "call": "nothing"}
    with pytest.raises(ValueError, match=r"must be those of ResNetBackbone. Received: \['call'\]"):
        type(with_attention).from_config(config)
