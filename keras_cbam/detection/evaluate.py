"""What a detector finds in a set of pictures, and how good that is."""

import numpy as np

from keras_cbam.detection.data.batches import detection_batches, fitted_scale, reading
from keras_cbam.detection.metrics.coco_metrics import coco_metrics
from keras_cbam.detection.metrics.voc_metrics import voc_metrics
from keras_cbam.errors import ModelError

_KEYS = ("boxes", "classes", "confidence", "num_detections")


def predict_detections(model, detection_set, image_size, batch_size=16):
    """What a detector finds in pictures of any size, in pixels of each.

    Args:
        model: detector whose `predict` takes float32 pixels in [0, 255],
            `(batch, image_size, image_size, 3)`, and gives `{"boxes": (batch, boxes, 4), "classes":
            (batch, boxes), "confidence": (batch, boxes), "num_detections": (batch,)}`: edges in
            pixels, left, top, right and bottom; a picture's detections come before its padding.
        detection_set: `DetectionSet`.
        image_size: int, side of the pictures that the model takes; see `detection_batches` for how
            they get to it.
        batch_size: int. Defaults to `16`.

    Returns:
        List with a dict for each picture: `"boxes"` float32 `(boxes, 4)`, in pixels of the
        picture itself and clipped to it; `"classes"` int64 `(boxes,)`; `"confidence"` float32
        `(boxes,)`.

    Raises:
        ModelError: if the model predicts something else, or numbers that are not finite.
        DataError: if a picture cannot be read.
        ValueError: if the model was made for pictures of another size.
    """
    own = getattr(getattr(model, "backbone", None), "input_shape", None)
    if isinstance(own, tuple) and len(own) == 4 and own[1] not in (None, image_size):
        raise ValueError(
            f"`image_size` must be {own[1]}, as the model {model.name!r} takes pictures. "
            f"Received: image_size={image_size!r}"
        )
    batches = detection_batches(detection_set, batch_size, image_size)
    with reading(detection_set):
        predictions = model.predict(batches.map(lambda images, _: images), verbose=0)
    if not isinstance(predictions, dict) or not set(_KEYS) <= set(predictions):
        raise ModelError(
            f"The model {model.name!r} must predict a dict of {', '.join(_KEYS)}, received "
            f"{sorted(predictions) if isinstance(predictions, dict) else type(predictions)}."
        )
    boxes, classes, confidence, counts = (np.asarray(predictions[key]) for key in _KEYS)
    detections = []
    for i, (height, width) in enumerate(detection_set.sizes):
        # Some detectors count their padding in.
        kept = np.flatnonzero(classes[i, : int(counts[i])] >= 0)
        own = boxes[i, kept] / np.tile(fitted_scale(height, width, image_size), 2)
        if not np.isfinite(own).all() or not np.isfinite(confidence[i, kept]).all():
            raise ModelError(f"The model {model.name!r} predicts numbers that are not finite.")
        detections.append(
            {
                "boxes": np.clip(own, 0, [width, height, width, height]).astype("float32"),
                "classes": classes[i, kept].astype("int64"),
                "confidence": confidence[i, kept].astype("float32"),
            }
        )
    return detections


def evaluate_detector(model, detection_set, image_size, batch_size=16):
    """COCO's and VOC 2007's metrics of a detector.

    Args:
        model: detector, see `predict_detections`.
        detection_set: `DetectionSet`.
        image_size: int, side of the pictures that the model takes.
        batch_size: int. Defaults to `16`.

    Returns:
        Dict: COCO's twelve, see `coco_metrics`; `"VOC07"`, the mean of `voc_metrics`;
        `"per_class"`, `{class name: {"AP": ..., "AP50": ..., "VOC07": ...}}`; `"pictures"`,
        `"objects"` (without ignored ones), `"image_size"` and `"skipped"`, see `DetectionSet`.
        What no object was there for is -1.

    Raises:
        ModelError: if the model predicts something else, classes that the set has not, or numbers
            that are not finite.
        DataError: if a picture cannot be read.

    Example:

    >>> report = evaluate_detector(model, clothing_scenes(100, "test"), image_size=96)
    >>> report["AP50"], report["per_class"]["Bag"]["AP50"]
    """
    detections = predict_detections(model, detection_set, image_size, batch_size)
    return measure(model, detection_set, detections, image_size)


def measure(model, detection_set, detections, image_size):
    """What `evaluate_detector` returns, of what `predict_detections` returned."""
    classes = len(detection_set.class_names)
    highest = max((found["classes"].max(initial=-1) for found in detections), default=-1)
    if highest >= classes:
        raise ModelError(
            f"The model {model.name!r} must predict classes below {classes}, as the pictures of "
            f"{detection_set.name!r} have, received {highest}."
        )
    metrics = coco_metrics(detection_set, detections)
    voc = voc_metrics(detection_set, detections)
    per_class = {
        name: {**values, "VOC07": voc["per_class"][name]}
        for name, values in metrics.pop("per_class").items()
    }
    return {
        **metrics,
        "VOC07": voc["mAP"],
        "per_class": per_class,
        "pictures": len(detection_set),
        "objects": int(sum((~ignored).sum() for ignored in detection_set.ignored)),
        "image_size": image_size,
        "skipped": detection_set.skipped,
    }
