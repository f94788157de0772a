import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam.detection import (
    SSD,
    StairNet,
    application_backbone,
    clothing_scenes,
    detection_batches,
    ssd_vgg16,
)
from keras_cbam.detection.models import named_backbones
from keras_cbam.detection.ops.boxes import encode_boxes
from keras_cbam.detection.ops.matching import match_boxes
from tests.detection.detector_checks import backbone, check_detector, check_predictions
from tests.detection.networks import BOXES, IMAGES

ARGUMENTS = {"extra_filters": (8,), "use_batch_norm": True, "max_detections": 20}


def detector(kind=SSD, attention=None, **kwargs):
    arguments = {**ARGUMENTS, **({"filters": 8} if kind is StairNet else {}), **kwargs}
    return kind(backbone((3, 4)), 2, attention, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "attention"), [(SSD, "cbam"), (StairNet, "se")])
def test_detector(kind, attention, tmp_path):
    check_detector(detector(kind, attention), tmp_path, 20, run_eagerly=kind is StairNet)


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)


def test_parameters_of_the_paper():
    """Table 7 of the CBAM paper, in millions: 26.5, 32.0, 32.1 and 32.1."""
    base = ssd_vgg16(weights=None)
    assert parameters(SSD(base, 20)) == 26_515_936
    assert parameters(StairNet(base, 20)) == 32_005_600
    assert parameters(StairNet(base, 20, "se")) == 32_056_384
    assert parameters(StairNet(base, 20, "cbam")) == 32_056_984
    # SSD300 itself has four default boxes at the first feature map, not six.
    ratios = [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]
    model = SSD(base, 20, aspect_ratios=ratios)
    assert parameters(model) == 26_285_486
    assert len(model.default_boxes) == 8732


def test_parameters_of_mobilenet():
    """The paper has 5.81 and 5.98 million, 5.99 with SE and 6.00 with CBAM."""
    base = application_backbone("MobileNet", weights=None, levels=(4, 5))
    arguments = {
        "extra_filters": (512, 256, 256, 128),
        "extra_padding": "same",
        "use_batch_norm": True,
        "head_kernel_size": 1,
    }
    stairs = {**arguments, "filters": 128, "separable": True}
    assert parameters(SSD(base, 20, **arguments)) == 5_815_264
    assert parameters(StairNet(base, 20, **stairs)) == 6_074_976
    assert parameters(StairNet(base, 20, "se", **stairs)) == 6_088_080
    assert parameters(StairNet(base, 20, "cbam", **stairs)) == 6_088_680


@pytest.mark.parametrize("attention", [None, "se", "cbam"])
def test_attention_is_before_every_classifier(attention):
    model = detector(attention=attention)
    names = [layer.name for layer in model.head.layers]
    for i in range(1, 4):
        assert (f"source_{i}_{attention}" in names) is (attention is not None)
        site = f"source_{i}_{attention}" if attention else f"source_{i}"
        for head in ("box", "class"):
            source = model.head.get_layer(f"{head}_{i}").input._keras_history.operation
            assert source.name == site


def test_loss_is_the_paper_s():
    """The smooth L1 and the cross-entropy of matched and of the three times as many worst boxes,
    over the number of matched ones, by NumPy."""
    model = detector(attention=None)
    model.compile("sgd", jit_compile=False)
    raw = {name: np.asarray(value) for name, value in model(IMAGES).items()}
    matched, classes, positive, _ = map(
        ops.convert_to_numpy,
        match_boxes(model.default_boxes, BOXES["boxes"], BOXES["classes"], 0.5, 0.5),
    )
    targets = np.asarray(encode_boxes(matched, model.default_boxes))
    logits = raw["classification"]
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    box_loss = class_loss = 0.0
    for i in range(2):
        difference = np.abs(targets[i] - raw["box"][i])[positive[i]]
        box_loss += np.where(difference < 1, 0.5 * difference**2, difference - 0.5).sum()
        rows = np.flatnonzero(positive[i])
        class_loss -= log_probabilities[i, rows, classes[i, rows] + 1].sum()
        others = np.sort(-log_probabilities[i, ~positive[i], 0])[::-1]
        class_loss += others[: 3 * len(rows)].sum()
    expected = np.array([box_loss, class_loss]) / positive.sum()
    found = model.evaluate(IMAGES, BOXES, batch_size=2, verbose=0, return_dict=True)
    losses = [found["box_loss"], found["classification_loss"]]
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


def test_decoding_suppresses_within_a_class_only():
    model = SSD(backbone((3, 4)), 2, extra_filters=(), max_detections=3)
    boxes = len(model.default_boxes)
    logits = np.zeros((1, boxes, 3), "float32")
    logits[..., 0] = 9
    # Two neighbours of class 0 that overlap, and class 1 at the place of the first.
    logits[0, 10] = [0, 9, 8.5]
    shifted = np.abs(model.default_boxes - model.default_boxes[10]).sum(axis=1).argsort()[1]
    logits[0, shifted] = [8, 8, 0]
    offsets = np.zeros((1, boxes, 4), "float32")
    found = model.decode_predictions({"box": offsets, "classification": logits})
    found = {name: ops.convert_to_numpy(value) for name, value in found.items()}
    assert found["classes"][0, :2].tolist() == [0, 1]
    np.testing.assert_allclose(found["boxes"][0, 0], found["boxes"][0, 1], atol=1e-3)
    expected = np.clip(model.default_boxes[10], 0, 64)
    np.testing.assert_allclose(found["boxes"][0, 0], expected, atol=1e-3)


def test_images_without_boxes():
    model = detector(attention=None)
    model.compile("sgd", jit_compile=False)
    nothing = {"boxes": np.full((2, 2, 4), -1, "float32"), "classes": np.full((2, 2), -1.0)}
    assert model.evaluate(IMAGES, nothing, batch_size=2, verbose=0) == [0, 0, 0]
    one = {name: np.concatenate([nothing[name][:1], BOXES[name][1:]]) for name in nothing}
    assert np.isfinite(model.fit(IMAGES, one, batch_size=2, verbose=0).history["loss"]).all()


def test_mixed_precision(dtype_policy, tmp_path):
    dtype_policy("mixed_float16")
    model = detector(StairNet, "cbam", extra_filters=())
    dtype_policy("float32")
    assert model.head.get_layer("source_1_cbam").compute_dtype == "float16"
    raw = model(IMAGES)
    assert {value.dtype.name for value in map(ops.convert_to_numpy, raw.values())} == {"float32"}
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    history = model.fit(IMAGES, BOXES, batch_size=2, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    predictions = model.predict(IMAGES, verbose=0)
    check_predictions(predictions, 20, 2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").predict(IMAGES, verbose=0)
    np.testing.assert_allclose(again["boxes"], predictions["boxes"], atol=1e-2)


@pytest.mark.slow
def test_xla():
    model = detector(extra_filters=())
    model.compile("sgd", jit_compile=True)
    plain = detector(extra_filters=())
    plain.set_weights(model.get_weights())
    plain.compile("sgd", jit_compile=False)
    for one in (model, plain):
        one.fit(IMAGES, BOXES, batch_size=2, epochs=1, verbose=0)
    found, expected = (one.predict(IMAGES, verbose=0) for one in (model, plain))
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-4)


def narrow_vgg16(monkeypatch, divisor):
    blocks = [(filters // divisor, count) for filters, count in named_backbones._VGG16_BLOCKS]
    monkeypatch.setattr(named_backbones, "_VGG16_BLOCKS", blocks)
    monkeypatch.setattr(named_backbones, "_VGG16_UNITS", 1024 // divisor)
    return ssd_vgg16((64, 64, 3), weights=None)


def test_vgg16_carries_weights_over(monkeypatch):
    """Of the fully connected layers, every third place and fourth channel."""
    base = narrow_vgg16(monkeypatch, 64)
    generator = np.random.default_rng(0)

    class Layer:
        def __init__(self, *shapes):
            self.weights = [generator.normal(size=shape).astype("float32") for shape in shapes]

        def get_weights(self):
            return self.weights

    dense = {"fc1": Layer((7 * 7 * 8, 64), (64,)), "fc2": Layer((64, 64), (64,))}

    class Classifier:
        layers = ()

        def get_layer(self, name):
            return dense[name]

    named_backbones._carry_over(Classifier(), base)
    kernel, bias = base.get_layer("fc6").get_weights()
    given = dense["fc1"].weights[0].reshape(7, 7, 8, 64)
    np.testing.assert_array_equal(kernel[1, 2], given[3, 6, :, ::4])
    np.testing.assert_array_equal(bias, dense["fc1"].weights[1][::4])
    np.testing.assert_array_equal(
        base.get_layer("fc7").get_weights()[0][0, 0], dense["fc2"].weights[0][::4, ::4]
    )


def test_conv4_3_is_normalized(monkeypatch):
    base = narrow_vgg16(monkeypatch, 16)
    taps = [base.get_layer(name).output for name in ("block4_conv3", "conv4_3_norm")]
    plain, normalized = keras.Model(base.input, taps)(IMAGES)
    plain, normalized = np.asarray(plain), np.asarray(normalized)
    norms = np.linalg.norm(plain, axis=-1, keepdims=True)
    is_large = norms[..., 0] > 0.1
    assert is_large.any()
    np.testing.assert_allclose(normalized[is_large], (20 * plain / norms)[is_large], rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": (0.1, 0.2)}, "`scales` must have 4 entries"),
        ({"scales": (0.1, -0.2, 0.3, 0.4)}, "`scales` must be positive numbers"),
        ({"scales": (0.1, float("nan"), 0.3, 0.4)}, "`scales` must be positive numbers"),
        ({"aspect_ratios": [(2,), (-1,), (2,)]}, "`aspect_ratios` must be positive numbers"),
        ({"scales": (0.1, 0.3, 0.2, 0.4)}, "`scales` must not decrease"),
        ({"extra_filters": 32}, "`extra_filters` must be a sequence"),
        ({"iou_threshold": 0}, "iou_threshold=0"),
        ({"extra_filters": (8,) * 9}, "`extra_filters` has too many entries"),
        ({"extra_padding": "some"}, "extra_padding='some'"),
        ({"confidence_threshold": 2}, "confidence_threshold=2"),
        ({"max_detections": 0}, "max_detections=0"),
        ({"filters": 0}, "filters=0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        detector(StairNet, **arguments)


def test_wrong_backbones_and_losses():
    with pytest.raises(ValueError, match="pyramid_outputs"):
        SSD(keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(4, 3)]), 2)
    with pytest.raises(ValueError, match="size of the images"):
        SSD(backbone((3, 4), input_shape=(None, None, 3)), 2)
    model = detector(attention=None)
    with pytest.raises(ValueError, match="takes `box_loss` and `classification_loss`"):
        model.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="no `metrics`"):
        model.compile("sgd", metrics=["accuracy"])
    for wrong in (3, "huber", max):
        with pytest.raises(ValueError, match="`box_loss` must be"):
            model.compile("sgd", box_loss=wrong)
    model.compile("sgd", box_loss="Huber", jit_compile=False)
    assert np.isfinite(model.evaluate(IMAGES, BOXES, verbose=0, return_dict=True)["box_loss"])


def test_a_box_that_is_no_number_is_not_left_out():
    model = detector(attention=None)
    model.compile("sgd", jit_compile=False)
    labels = {**BOXES, "boxes": BOXES["boxes"].copy()}
    labels["boxes"][1, 0, 2] = np.nan
    assert np.isnan(model.evaluate(IMAGES, labels, verbose=0, return_dict=True)["loss"])


@pytest.mark.parametrize("short_side", [-5, "a", 2.5])
def test_a_short_side_that_is_none(short_side):
    with pytest.raises(ValueError, match=f"Received: short_side={short_side!r}"):
        detector(short_side=short_side)
    with pytest.raises(ValueError, match=f"Received: short_side={short_side!r}"):
        detection_batches(clothing_scenes(2), 2, 64, short_side=short_side)


@pytest.mark.parametrize(
    "labels",
    [
        BOXES["boxes"],
        {"boxes": BOXES["boxes"]},
        {**BOXES, "classes": keras.utils.to_categorical([[0, 1], [1, 0]])},
        {**BOXES, "boxes": BOXES["boxes"][..., :3]},
        {**BOXES, "classes": BOXES["classes"][:, :1]},
    ],
)
def test_wrong_labels(labels):
    model = detector(extra_filters=())
    model.compile("sgd", jit_compile=False)
    with pytest.raises(ValueError, match="A detector learns from a dict of `boxes`"):
        model.fit(IMAGES, labels, verbose=0)
