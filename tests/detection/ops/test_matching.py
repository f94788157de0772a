import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam.detection.ops.matching import first_of, match_boxes, sample_matches
from tests.detection.ops.test_boxes import random_boxes


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return both / (areas - both)


def reference(anchors, boxes, positive, negative, keep_best):
    """For each anchor the box it is positive for, -1 if it is negative, -2 if neither."""
    found = []
    table = np.array([[iou(anchor, box) for box in boxes] for anchor in anchors])
    for row in table:
        best = int(row.argmax())
        found.append(best if row[best] >= positive else -1 if row[best] < negative else -2)
    if keep_best == "own":
        for column in range(len(boxes)):
            for row in np.flatnonzero(table[:, column] == table[:, column].max()):
                found[row] = int(table[row].argmax())
    if keep_best == "box":
        for column in range(len(boxes)):
            best = int(table[:, column].argmax())
            if table[best, column] > 0:
                found[best] = column
    return np.array(found)


@pytest.mark.parametrize("keep_best", ["box", "own", None])
@pytest.mark.parametrize("thresholds", [(0.5, 0.5), (0.7, 0.3)])
def test_matches_are_the_reference(keep_best, thresholds):
    generator = np.random.default_rng(1)
    anchors = random_boxes(generator, 60, 100)
    boxes = np.stack([random_boxes(generator, 4, 100) for _ in range(3)])
    boxes[1, 2:] = -1
    boxes[2] = -1
    classes = np.where((boxes < 0).all(axis=-1), -1, [[0, 1, 2, 1]]).astype("float32")
    matched, found, positives, negatives = map(
        ops.convert_to_numpy, match_boxes(anchors, boxes, classes, *thresholds, keep_best)
    )
    assert positives.any(axis=1).tolist()[2] is False
    for i, count in enumerate((4, 2, 0)):
        expected = np.full(60, -1)
        if count:
            expected = reference(anchors, boxes[i, :count], *thresholds, keep_best)
        np.testing.assert_array_equal(positives[i], expected >= 0)
        np.testing.assert_array_equal(negatives[i], expected == -1)
        own = expected[expected >= 0]
        np.testing.assert_array_equal(matched[i][positives[i]], boxes[i][own])
        np.testing.assert_array_equal(found[i][positives[i]], classes[i][own])


def test_every_box_keeps_its_best_anchor():
    anchors = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 90, 90]], "float32")
    boxes = np.array([[[0, 0, 100, 20]]], "float32")
    _, _, positives, _ = match_boxes(anchors, boxes, np.zeros((1, 1)), 0.5, 0.5)
    assert ops.convert_to_numpy(positives).tolist() == [[True, False, False]]
    outside = np.array([[[45, 45, 50, 50]]], "float32")
    _, _, positives, negatives = match_boxes(anchors, outside, np.zeros((1, 1)), 0.5, 0.5)
    assert not ops.convert_to_numpy(positives).any()
    assert ops.convert_to_numpy(negatives).all()


def test_equally_good_anchors():
    """All of them are positive in Faster R-CNN, the first one in SSD."""
    anchors = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [40, 40, 50, 50]], "float32")
    boxes, classes = np.array([[[5, 0, 15, 10]]], "float32"), np.zeros((1, 1))
    for keep_best, expected in (("own", [True, True, False]), ("box", [True, False, False])):
        _, _, positives, _ = match_boxes(anchors, boxes, classes, 0.7, 0.3, keep_best)
        assert ops.convert_to_numpy(positives)[0].tolist() == expected


def test_first_of():
    scores = np.array([[0.1, 0.9, 0.5, 0.7], [0.4, 0.3, 0.2, 0.1]], "float32")
    among = np.array([[True, False, True, True], [False, False, True, True]])
    found = ops.convert_to_numpy(first_of(scores, among, np.array([[2], [5]], "int32")))
    assert found.tolist() == [[False, False, True, True], [False, False, True, True]]


def test_samples():
    positive = np.zeros((2, 40), bool)
    positive[0, :20] = True
    positive[1, :2] = True
    seed = keras.random.SeedGenerator(0)
    positives, negatives = map(
        ops.convert_to_numpy, sample_matches(positive, ~positive, 16, 0.25, seed)
    )
    assert positives.sum(axis=1).tolist() == [4, 2]
    assert negatives.sum(axis=1).tolist() == [12, 14]
    assert not (positives & ~positive).any()
    assert not (negatives & positive).any()
    few = sample_matches(positive, ~positive, 3, 0.25, seed)[0]
    assert ops.convert_to_numpy(few).sum(axis=1).tolist() == [1, 1]
    others = ops.convert_to_numpy(sample_matches(positive, ~positive, 16, 0.25, seed)[1])
    assert (others != negatives).any()
