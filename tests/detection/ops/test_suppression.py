import functools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_cbam.detection import SSD
from keras_cbam.detection.ops.suppression import suppress_in_classes
from tests.detection.detector_checks import backbone


def overlap(one, other):
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = max(width, 0) * max(height, 0)
    areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def reference(boxes, confidence, groups, iou_threshold, confidence_threshold, most):
    kept = []
    for i in np.argsort(-confidence):
        rivals = [k for k in kept if groups[k] == groups[i]]
        if confidence[i] > confidence_threshold and all(
            overlap(boxes[i], boxes[k]) <= iou_threshold for k in rivals
        ):
            kept.append(i)
    return kept[:most]


@pytest.mark.parametrize("has_own_boxes", [False, True])
def test_suppression_within_classes_is_the_reference(has_own_boxes):
    generator = np.random.default_rng(0)
    shape = (3, 60, 3, 2) if has_own_boxes else (3, 60, 2)
    corners = generator.uniform(0, 30, shape)
    boxes = np.concatenate([corners, corners + generator.uniform(8, 20, shape)], axis=-1)
    boxes = boxes.astype("float32")
    probabilities = generator.permuted(np.linspace(0.001, 0.6, 540)).reshape(3, 60, 3)
    probabilities = probabilities.astype("float32")
    found = suppress_in_classes(
        ops.convert_to_tensor(boxes),
        ops.convert_to_tensor(probabilities),
        iou_threshold=0.2,
        confidence_threshold=0.3,
        max_detections=26,
    )
    found = {name: ops.convert_to_numpy(values) for name, values in found.items()}
    counts = []
    for image in range(3):
        own = boxes[image] if has_own_boxes else np.repeat(boxes[image, :, None], 3, axis=1)
        own = own.reshape(-1, 4), probabilities[image].reshape(-1), np.tile(np.arange(3), 60)
        kept = reference(*own, 0.2, 0.3, 26)
        count = found["num_detections"][image]
        assert count == len(kept)
        counts.append(count)
        for name, values in zip(("boxes", "confidence", "classes"), own):
            np.testing.assert_array_equal(found[name][image, :count], values[kept])
            assert (found[name][image, count:] == -1).all()
    assert min(counts) < 26 == max(counts)


def test_sure_objects_do_not_hide_others(monkeypatch):
    """Sixteen objects of 30 overlapping boxes each at .9, and a hundred at .5 of another class."""
    places = np.stack(np.meshgrid(np.arange(0, 600, 50), np.arange(0, 500, 50)), -1).reshape(-1, 2)
    sure, others = places[:16], places[16:116]
    corners = np.concatenate([*(sure + i / 30 for i in range(30)), others])
    boxes = np.concatenate([corners, corners + 40], axis=1)[None].astype("float32")
    probabilities = np.zeros((1, 580, 2), "float32")
    probabilities[0, :480, 0], probabilities[0, 480:, 1] = 0.9, 0.5
    model = SSD(backbone((3, 4)), 2, extra_filters=())
    given = ops.convert_to_tensor(boxes), ops.convert_to_tensor(probabilities)
    monkeypatch.setattr(model, "candidates", lambda predictions: given)
    found = model.decode_predictions(None)
    assert int(found["num_detections"][0]) == 116
    assert np.bincount(ops.convert_to_numpy(found["classes"])[0, :116]).tolist() == [16, 100]


def test_fewer_boxes_than_detections():
    boxes, probabilities = np.array([[[0, 0, 9, 9]]], "float32"), np.array([[[0.7]]], "float32")
    found = suppress_in_classes(
        ops.convert_to_tensor(boxes), ops.convert_to_tensor(probabilities), 0.5, 0.1, 3
    )
    assert ops.convert_to_numpy(found["classes"]).tolist() == [[0, -1, -1]]
    assert ops.convert_to_numpy(found["num_detections"]).tolist() == [1]


def test_a_cut_changes_nothing_and_xla_compiles_the_rest():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 80, (2, 900, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 30, (2, 900, 2))], axis=-1)
    given = boxes.astype("float32"), (generator.random((2, 900, 3)) ** 9).astype("float32")
    thresholds = {"iou_threshold": 0.45, "confidence_threshold": 0.5, "max_detections": 200}
    whole, cut, compiled = (
        tf.function(
            functools.partial(suppress_in_classes, **thresholds),
            input_signature=[tf.TensorSpec((batch, *each.shape[1:])) for each in given],
            jit_compile=jit_compile,
        )(*given)
        for batch, jit_compile in ((2, False), (None, False), (2, True))
    )
    assert int(tf.reduce_min(whole["num_detections"])) > 20
    for name, values in whole.items():
        np.testing.assert_array_equal(cut[name], values, err_msg=name)
        np.testing.assert_allclose(compiled[name], values, rtol=1e-5, err_msg=name)
