"""The regions of Faster R-CNN: the networks that propose and classify them; what these learn."""

from typing import Any

import keras

from keras_cbam.detection.ops import ops
from keras_cbam.detection.ops.boxes import encode_boxes
from keras_cbam.detection.ops.matching import match_boxes, sample_matches
from keras_cbam.detection.ops.suppression import suppress_in_groups


@keras.saving.register_keras_serializable(package="keras_cbam")
class SmoothL1(keras.losses.Loss):
    """Smooth L1, a mean: `|x| - beta / 2` from beta on, below it `x ** 2 / (2 * beta)`."""

    def __init__(self, beta: float = 1 / 9, name: str = "smooth_l1", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.beta = beta

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.divide(keras.losses.huber(y_true, y_pred, delta=self.beta), self.beta)

    def get_config(self) -> dict:
        return {**super().get_config(), "beta": self.beta}


# From which IoU an anchor is positive, and below which it is negative; and that of regions.
_ANCHOR_IOU = (0.7, 0.3)
_REGION_IOU = 0.5


def region_proposal_network(filters: int, anchors: int, dtype: Any) -> keras.Model:
    """From a feature map to its anchors' logits and offsets; one network for all levels."""
    inputs = keras.Input((None, None, filters), dtype=keras.dtype_policies.get(dtype).compute_dtype)
    options = {"padding": "same", "activation": "relu", "dtype": dtype, "name": "proposal"}
    x = keras.layers.Conv2D(filters, 3, **options)(inputs)
    rows = {}
    for name, values in (("objectness", 1), ("offsets", 4)):
        options = {"kernel_initializer": _small(0.01), "dtype": dtype, "name": f"proposal_{name}"}
        outputs = keras.layers.Conv2D(anchors * values, 1, **options)(x)
        rows[name] = keras.layers.Reshape((-1, values), dtype="float32", name=name)(outputs)
    return keras.Model(inputs, rows, name="region_proposal")


def select_proposals(boxes: Any, logits: Any, count: int, iou_threshold: float) -> tuple[Any, Any]:
    """The best anchors after non-maximum suppression in each level, and which are no padding."""
    found = []
    for level, (own, scores) in enumerate(zip(boxes, logits)):
        scores, index = ops.top_k(scores[..., 0], min(2 * count, scores.shape[1]))
        best = ops.take_along_axis(own, index[..., None], axis=1)
        found.append((best, scores, ops.full_like(index, level)))
    best, rated, levels = (ops.stop_gradient(ops.concatenate(each, axis=1)) for each in zip(*found))
    count = min(count, best.shape[1])
    found = suppress_in_groups(best, rated, levels, iou_threshold, count)
    return found["boxes"], found["classes"] >= 0


def region_head(shape, num_classes, units, use_layer_norm, dtype):
    """From the features of regions to their class logits and offsets, four for each class."""
    inputs = keras.Input(shape, dtype=dtype.compute_dtype)
    x = keras.layers.Flatten(dtype=dtype, name="flatten")(inputs)
    for i in (1, 2):
        x = keras.layers.Dense(units, dtype=dtype, name=f"fc{i}")(x)
        if use_layer_norm:
            x = keras.layers.LayerNormalization(dtype=dtype, name=f"fc{i}_norm")(x)
        x = keras.layers.ReLU(dtype=dtype, name=f"fc{i}_relu")(x)
    logits = keras.layers.Dense(1 + num_classes, dtype="float32", name="class")(x)
    options = {"kernel_initializer": _small(0.001), "dtype": "float32", "name": "box"}
    offsets = keras.layers.Dense(4 * num_classes, **options)(x)
    return keras.Model(inputs, {"classification": logits, "box": offsets}, name="head")


def _small(deviation) -> Any:
    return keras.initializers.RandomNormal(stddev=deviation)


def anchor_targets(anchors, boxes, classes, count, seed, variances):
    """Targets and weights, by the name of the loss, of a sample of each image's anchors."""
    matched, _, is_positive, is_negative = match_boxes(
        anchors, boxes, classes, *_ANCHOR_IOU, keep_best="own"
    )
    count = min(count, len(anchors))
    positives, negatives = sample_matches(is_positive, is_negative, count, 0.5, seed)
    targets = {
        "rpn_box": encode_boxes(matched, anchors, variances),
        "rpn_classification": ops.cast(positives, "float32")[..., None],
    }
    return targets, _sample_weights("rpn_", positives, negatives)


def proposal_targets(proposals, is_proposal, boxes, classes, count, seed):
    """A sample of each image's proposals and boxes, with their targets and weights."""
    # The boxes themselves are proposals as well: the first proposals hit nothing.
    regions = ops.concatenate([proposals, boxes], axis=1)
    is_region = ops.concatenate([is_proposal, classes >= 0], axis=1)
    matched, classes, is_positive, is_negative = match_boxes(
        regions, boxes, classes, _REGION_IOU, _REGION_IOU, keep_best=None
    )
    positives, negatives = sample_matches(
        is_positive & is_region, is_negative & is_region, count, 0.25, seed
    )
    # How many boxes are beside the proposals differs from batch to batch.
    count = min(count, proposals.shape[1] + 1)
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
