"""The regions of Faster R-CNN: the network that proposes them, and that of their classes."""

import keras
from keras import ops

from keras_cbam.detection.ops.suppression import suppress_in_groups


def region_proposal_network(filters, anchors, dtype):
    """From a feature map to its anchors' logits and offsets; one network for all levels."""
    inputs = keras.Input((None, None, filters), dtype=keras.dtype_policies.get(dtype).compute_dtype)
    x = keras.layers.Conv2D(
        filters, 3, padding="same", activation="relu", dtype=dtype, name="proposal"
    )(inputs)
    rows = {}
    for name, values in (("objectness", 1), ("offsets", 4)):
        small = keras.initializers.RandomNormal(stddev=0.01)
        outputs = keras.layers.Conv2D(
            anchors * values, 1, kernel_initializer=small, dtype=dtype, name=f"proposal_{name}"
        )(x)
        rows[name] = keras.layers.Reshape((-1, values), dtype="float32", name=name)(outputs)
    return keras.Model(inputs, rows, name="region_proposal")


def select_proposals(boxes, logits, count, iou_threshold, image_size):
    """The best anchors of all levels after non-maximum suppression within each level.

    As `keras_cv.layers.ROIGenerator`, which fails under a policy of mixed precision. Each level has
    `boxes` `(batch, anchors, 4)`, "xyxy" in pixels, inside the image, and `logits`
    `(batch, anchors, 1)`; nothing is differentiated through the selection. Returns boxes
    `(batch, count or all anchors, 4)`, and which of them are proposals: the others are padding.
    """
    best, confidence, levels = [], [], []
    for level, scores in enumerate(logits):
        most = min(2 * count, scores.shape[1])
        scores, index = ops.top_k(scores[..., 0], most)
        index = ops.cast(index, "int32")
        best.append(ops.take_along_axis(boxes[level], index[..., None], axis=1))
        # Confidences that are 0 have no group.
        confidence.append(ops.maximum(ops.sigmoid(scores), 1e-7))
        levels.append(ops.full_like(index, level))
    best, confidence, levels = (
        ops.stop_gradient(ops.concatenate(each, axis=1)) for each in (best, confidence, levels)
    )
    proposals = suppress_in_groups(
        best,
        confidence,
        levels,
        len(logits),
        image_size,
        iou_threshold=iou_threshold,
        confidence_threshold=float("-inf"),
        max_detections=min(count, best.shape[1]),
    )
    return proposals["boxes"], proposals["classes"] >= 0


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
    small = keras.initializers.RandomNormal(stddev=0.001)
    offsets = keras.layers.Dense(
        4 * num_classes, kernel_initializer=small, dtype="float32", name="box"
    )(x)
    return keras.Model(inputs, {"classification": logits, "box": offsets}, name="head")
