"""Targets and losses of Faster R-CNN, against what torchvision computes, written out in NumPy."""

import numpy as np
import pytest
from keras import ops

from keras_cbam.detection.models.faster_rcnn_regions import SmoothL1, proposal_targets
from tests.detection.models.test_faster_rcnn import detector
from tests.detection.networks import BOXES, IMAGES
from tests.detection.ops.test_boxes import random_boxes
from tests.detection.ops.test_matching import iou


def smooth_l1(difference, beta=1 / 9):
    size = np.abs(difference)
    return np.where(size < beta, size**2 / (2 * beta), size - beta / 2)


def offsets(boxes, anchors, weights):
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    own_centers, own = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    return np.concatenate([(centers - own_centers) / own, np.log(sizes / own)], axis=1) * weights


def matched(anchors, boxes, high, low, allow_low_quality):
    """The box of each anchor, -1 if it is negative, -2 if neither; float32, as there are ties."""
    table = np.array([[iou(anchor, box) for anchor in anchors] for box in boxes])
    best = table.argmax(axis=0)
    found = np.where(table.max(axis=0) < low, -1, np.where(table.max(axis=0) < high, -2, best))
    if allow_low_quality:
        is_best = (table == table.max(axis=1, keepdims=True)).any(axis=0)
        found[is_best] = best[is_best]
    return found


def test_first_stage():
    # As many anchors are sampled as there are, so that chance decides nothing.
    model = detector(sampled_anchors=10**6)
    model.compile("sgd", run_eagerly=True)
    raw = model(IMAGES)
    names = ("rpn_box", "rpn_classification")
    raw = {name: ops.convert_to_numpy(raw[name]).astype("float64") for name in names}
    anchors = np.concatenate(model.anchors)
    box_loss = classification_loss = sampled = 0
    for i, (boxes, classes) in enumerate(zip(BOXES["boxes"], BOXES["classes"])):
        boxes = boxes[classes >= 0]
        found = matched(anchors, boxes, 0.7, 0.3, True)
        positive = np.flatnonzero(found >= 0)
        assert 0 < len(positive) < len(anchors) / 2
        pairs = (each.astype("float64") for each in (boxes[found[positive]], anchors[positive]))
        targets = offsets(*pairs, 1.0)
        box_loss += smooth_l1(raw["rpn_box"][i, positive] - targets).sum()
        logits = raw["rpn_classification"][i, :, 0]
        signed = np.where(found >= 0, -logits, logits)[found != -2]
        classification_loss += np.log1p(np.exp(signed)).sum()
        sampled += len(signed)
    losses = model.evaluate(IMAGES, BOXES, batch_size=2, verbose=0, return_dict=True)
    assert losses["rpn_box_loss"] == pytest.approx(box_loss / sampled, rel=1e-6)
    assert losses["rpn_classification_loss"] == pytest.approx(
        classification_loss / sampled, rel=1e-6
    )


def test_offsets_of_eight_pixels_on_anchors_of_64():
    # 8 / 64 is above a beta of 1/9, log(72 / 64) too.
    anchors, boxes = np.array([[0.0, 0, 64, 64]]), np.array([[8.0, 8, 72, 72], [0, 0, 72, 72]])
    expected = [2 * (8 / 64 - 1 / 18) / 4]
    expected += [2 * ((4 / 64) ** 2 * 9 / 2 + np.log(72 / 64) - 1 / 18) / 4]
    found = offsets(boxes, anchors, 1.0)
    loss = SmoothL1(reduction="none")
    np.testing.assert_allclose(loss(np.zeros((2, 4)), found), expected, rtol=1e-6)
    again = SmoothL1.from_config(SmoothL1(0.5).get_config())
    assert again.beta == 0.5


def test_second_stage():
    """Of all regions; the boxes are among them. Offsets are weighted by 10, 10, 5 and 5."""
    generator = np.random.default_rng(0)
    proposals = np.stack([random_boxes(generator, 30, 64) for _ in range(2)])
    proposals[0, :8] = BOXES["boxes"][0, 0] + generator.uniform(-4, 4, (8, 4))
    is_proposal = np.ones((2, 30), bool)
    boxes, classes = ops.convert_to_tensor(BOXES["boxes"]), BOXES["classes"]
    regions, targets, weights = proposal_targets(proposals, is_proposal, boxes, classes, 128, 0)
    regions, weights = ops.convert_to_numpy(regions), ops.convert_to_numpy(weights["box"])
    learned = ops.convert_to_numpy(targets["box"])
    for i in range(2):
        own = BOXES["boxes"][i][classes[i] >= 0]
        found = matched(regions[i], own, 0.5, 0.5, False)
        positive = np.flatnonzero(weights[i] > 0)
        assert (found[positive] >= 0).all()
        assert len(positive) == (found >= 0).sum() <= 32
        expected = offsets(own[found[positive]], regions[i, positive], [10, 10, 5, 5])
        np.testing.assert_allclose(learned[i, positive], expected, atol=1e-4)
    model = detector()
    model.compile("sgd", run_eagerly=True)
    assert {loss.beta for loss in (model.loss["box"], model.loss["rpn_box"])} == {1 / 9}


def test_an_earlier_file_keeps_its_variances():
    config = detector().get_config()
    del config["rpn_variances"]
    assert type(detector()).from_config(config).rpn_variances == (0.1, 0.1, 0.2, 0.2)
