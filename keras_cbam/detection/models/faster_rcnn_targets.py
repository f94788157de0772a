"""What the two stages of Faster R-CNN learn from the boxes of images."""

from keras import ops

from keras_cbam.detection.ops.boxes import encode_boxes
from keras_cbam.detection.ops.matching import match_boxes, sample_matches

# From which IoU an anchor is positive, and below which it is negative; and that of regions.
_ANCHOR_IOU = (0.7, 0.3)
_REGION_IOU = 0.5


def anchor_targets(anchors, boxes, classes, count, seed):
    """What a sample of `count` anchors of each image learns, up to half of them positive.

    Boxes `(batch, boxes, 4)`, "xyxy" in pixels, and classes `(batch, boxes)` are padded with -1.
    Returns targets (whether an anchor is on a box, and the offsets of that) and weights, dicts by
    the name of the loss.
    """
    matched, _, is_positive, is_negative = match_boxes(anchors, boxes, classes, *_ANCHOR_IOU)
    count = min(count, len(anchors))
    positives, negatives = sample_matches(is_positive, is_negative, count, 0.5, seed)
    targets = {
        "rpn_box": encode_boxes(matched, anchors),
        "rpn_classification": ops.cast(positives, "float32")[..., None],
    }
    return targets, _sample_weights("rpn_", positives, negatives)


def proposal_targets(proposals, is_proposal, boxes, classes, count, seed):
    """What a sample of `count` proposals and boxes of each image learns, up to a quarter positive.

    `is_proposal` is false where `proposals` is padding. Returns the sampled regions `(batch, count,
    4)`, and targets and weights as `anchor_targets`.
    """
    # The boxes themselves are proposals as well: the first proposals hit nothing.
    regions = ops.concatenate([proposals, boxes], axis=1)
    is_region = ops.concatenate([is_proposal, classes >= 0], axis=1)
    matched, classes, is_positive, is_negative = match_boxes(
        regions, boxes, classes, _REGION_IOU, _REGION_IOU, keep_best=False
    )
    count = min(count, regions.shape[1])
    positives, negatives = sample_matches(
        is_positive & is_region, is_negative & is_region, count, 0.25, seed
    )
    ranks = ops.cast(positives, "float32") * 2 + ops.cast(negatives, "float32")
    index = ops.cast(ops.top_k(ranks, count)[1], "int32")
    regions, matched = (
        ops.take_along_axis(values, index[..., None], axis=1) for values in (regions, matched)
    )
    classes, positives, negatives = (
        ops.take_along_axis(values, index, axis=1) for values in (classes, positives, negatives)
    )
    # A padded region has no size.
    opposite = ops.maximum(regions[..., 2:], regions[..., :2] + 1)
    offsets = encode_boxes(matched, ops.concatenate([regions[..., :2], opposite], axis=-1))
    targets = {
        "box": ops.where(positives[..., None], offsets, 0.0),
        "classification": ops.where(positives, classes + 1, 0),
    }
    return regions, targets, _sample_weights("", positives, negatives)


def _sample_weights(prefix, positives, negatives):
    """Weights that make the summed losses means over the sample."""
    sample = ops.cast(positives | negatives, "float32")
    divisor = ops.maximum(ops.sum(sample), 1.0)
    return {
        # The loss is the mean of the four offsets, the paper's their sum.
        f"{prefix}box": 4.0 * ops.cast(positives, "float32") / divisor,
        f"{prefix}classification": sample / divisor,
    }
