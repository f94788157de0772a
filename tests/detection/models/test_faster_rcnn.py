import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import insert_attention
from keras_cbam.detection import FasterRCNN, detection_backbone
from tests.detection.detector_checks import backbone, check_detector
from tests.detection.networks import BOXES, IMAGES, strided_model

ARGUMENTS = {
    "filters": 8,
    "head_units": 16,
    "anchor_scale": 4.0,
    "num_proposals": (12, 8),
    "sampled_anchors": 16,
    "sampled_proposals": 8,
    "max_detections": 10,
    "seed": 0,
}


def detector(levels=(2, 3, 4), **kwargs):
    network = insert_attention(strided_model(), "cbam", r".*_relu")
    return FasterRCNN(detection_backbone(network, levels), 2, **{**ARGUMENTS, **kwargs})


@pytest.mark.slow
def test_detector(tmp_path):
    model = detector()
    assert sum("cbam" in layer.name for layer in model.backbone.layers) == 4
    check_detector(model, tmp_path, 10, epochs=8, run_eagerly=True)


def test_one_level_has_no_pyramid():
    model = detector((4,))
    assert model.strides == [16]
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.evaluate(IMAGES, BOXES, verbose=0)).all()


def test_anchors_are_centered_at_every_position():
    model = detector()
    assert model.strides == [4, 8, 16, 32]
    assert [len(level) for level in model.anchors] == [3 * n * n for n in (16, 8, 4, 2)]
    first = model.anchors[0][:3]
    np.testing.assert_allclose((first[:, :2] + first[:, 2:]) / 2, 2.0, atol=1e-4)
    sizes = first[:, 2:] - first[:, :2]
    np.testing.assert_allclose(sizes.prod(axis=1), 16.0**2, rtol=1e-4)
    np.testing.assert_allclose(sizes[:, 0] / sizes[:, 1], [0.5, 1.0, 2.0], rtol=1e-4)


def test_targets_of_anchors_and_proposals():
    model = detector()
    raw = model(IMAGES, training=True)
    targets, predictions, weights = model.targets(
        ops.convert_to_tensor(BOXES["boxes"]), BOXES["classes"], raw
    )
    arrays = {name: ops.convert_to_numpy(value) for name, value in targets.items()}
    weights = {name: ops.convert_to_numpy(value) for name, value in weights.items()}
    for name in targets:
        assert arrays[name].shape[:2] == tuple(predictions[name].shape[:2]), name
    # The losses are means over the samples of the batch.
    assert weights["rpn_classification"].sum() == pytest.approx(1, abs=1e-5)
    assert weights["classification"].sum() == pytest.approx(1, abs=1e-5)
    positives = weights["box"] > 0
    # The boxes are among the proposals.
    assert positives.any(axis=1).all()
    assert (positives.sum(axis=1) <= ARGUMENTS["sampled_proposals"] // 4).all()
    assert ((arrays["classification"] > 0) == positives).all()
    assert (arrays["classification"][1][positives[1]] == 2).all()
    # A proposal that is the box itself needs no offset.
    assert (np.abs(arrays["box"]).sum(axis=-1)[positives].min()) < 1e-3


def test_gradients_reach_every_weight():
    import tensorflow as tf

    model = detector()
    model.compile("sgd", jit_compile=False)
    with tf.GradientTape() as tape:
        outputs = model(IMAGES, training=True)
        targets = {name: tf.constant(value) for name, value in BOXES.items()}
        loss = model.compute_loss(IMAGES, targets, outputs)
    gradients = tape.gradient(loss, model.trainable_variables)
    missing = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None
    ]
    assert not missing


def test_images_without_boxes():
    model = detector()
    model.compile("sgd", run_eagerly=True)
    nothing = {"boxes": np.full((2, 2, 4), -1, "float32"), "classes": np.full((2, 2), -1.0)}
    losses = model.fit(IMAGES, nothing, batch_size=2, verbose=0).history
    assert np.isfinite(losses["loss"]).all()
    assert losses["box_loss"] == losses["rpn_box_loss"] == [0]


@pytest.mark.parametrize("use_layer_norm", [False, True])
def test_units_outlive_a_common_shift_if_normalized(use_layer_norm):
    head = detector(use_layer_norm=use_layer_norm).head
    dense = head.get_layer("fc1")
    dense.bias.assign(np.full(dense.bias.shape, -1000.0))
    outputs = keras.Model(head.input, head.get_layer("fc1_relu").output)
    regions = np.random.default_rng(0).normal(size=(20, *head.input_shape[1:]))
    active = ops.convert_to_numpy(outputs(regions.astype("float32"))) > 0
    assert active.any(axis=0).all() == active.any() == use_layer_norm


def test_mixed_precision(dtype_policy):
    dtype_policy("mixed_float16")
    model = detector(use_layer_norm=True)
    assert model.neck.layers[-1].compute_dtype == "float16"
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.fit(IMAGES, BOXES, verbose=0).history["loss"]).all()
    assert np.isfinite(model.predict(IMAGES, verbose=0)["boxes"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anchor_scale": 0}, "`anchor_scale` must be positive"),
        ({"aspect_ratios": (0.0,)}, "`aspect_ratios` must be positive"),
        ({"aspect_ratios": ()}, "`aspect_ratios` must have an entry"),
        ({"num_proposals": (5,)}, "`num_proposals` must be two integers"),
        ({"num_proposals": 10}, "`num_proposals` must be two integers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FasterRCNN(backbone((2, 3)), 2, **{**ARGUMENTS, **arguments})


def test_levels_with_a_gap():
    with pytest.raises(ValueError, match=r"must be consecutive. Received: levels \[2, 4\]"):
        FasterRCNN(backbone((2, 4)), 2, **ARGUMENTS)


def test_feature_maps_must_fit_their_strides():
    wrong = backbone((2, 3, 4))
    wrong.pyramid_outputs = {
        "P2": wrong.get_layer("stage1_relu").output,
        "P3": wrong.get_layer("stage3_relu").output,
    }
    with pytest.raises(ValueError, match="divided by its stride"):
        FasterRCNN(wrong, 2, **ARGUMENTS)
