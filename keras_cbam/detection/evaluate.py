"""What a detector finds in images, how good that is, and whether another one finds the same."""

from typing import Any

import numpy as np

from keras_cbam.data.batches import reading
from keras_cbam.detection.arguments import SCENES, DetectorArguments
from keras_cbam.detection.data.batches import detection_batches
from keras_cbam.detection.data.detection_set import DetectionSet
from keras_cbam.detection.data.fitting import fitted, fitted_scale
from keras_cbam.detection.data.load import load_detection_data
from keras_cbam.detection.loading import load_run
from keras_cbam.detection.metrics.coco_metrics import Detections, metrics_and_curves
from keras_cbam.detection.metrics.voc_metrics import voc_metrics
from keras_cbam.errors import DataError, ModelError, TrainingError, one_of, require
from keras_cbam.training.arguments import existing_path

BATCH_SIZE = 16
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
# What a prediction is, a dict of arrays.
_KEYS = ("boxes", "classes", "confidence", "num_detections")
# Of all detections, those that may have no counterpart: where two are equally good, rounding
# decides which one suppresses the other.
LARGEST_UNPAIRED = 0.01


def predict_detections(
    model: Any, detection_set: DetectionSet, image_size: int, batch_size: int = BATCH_SIZE
) -> Detections:
    """What a detector finds in images of any size, in pixels of each.

    Args:
        model: detector, see `build_detector`, or a model whose `predict` returns the same dict.
        detection_set: `DetectionSet`.
        image_size: int, side in pixels of the images that the model takes.
        batch_size: int. Defaults to `16`.

    Returns:
        List with a dict for each image of `detection_set.readable()`: `"boxes"` float32 `(boxes,
        4)`, left, top, right and bottom edge in pixels of the image itself, clipped to it;
        `"classes"` int64 and `"confidence"` float32 `(boxes,)`.

    Raises:
        ModelError: if the model predicts something else, or numbers that are not finite.
        DataError: if too many images cannot be read, see `SizedImages`.
        ValueError: if the model was made for images of another size.

    Example:

    >>> predict_detections(model, clothing_scenes(1, "test"), image_size=96)[0]["boxes"]
    """
    # Models of others, which predict the same dict, have none of these.
    side, own = getattr(model, "short_side", None), getattr(model, "image_size", (image_size,))
    message = f"`image_size` must be that of the images of the model, {own}."
    require(set(own) == {image_size}, message, f"image_size={image_size}")
    batches = detection_batches(detection_set, batch_size, image_size, short_side=side)
    with reading(detection_set.source):
        predictions = model.predict(batches.map(lambda images, _: images), verbose=0)
    found = _in_own_pixels(model, predictions, detection_set.sizes, image_size, side)
    # What stands in for an image that cannot be read is not of it.
    failures = detection_set.source.failures
    return [each for i, each in enumerate(found) if i not in failures]


def find_objects(model: Any, images: Any) -> Detections:
    """As `predict_detections`, of RGB `PIL.Image.Image`s, by a detector of ours."""
    image_size, side = model.image_size[0], model.short_side
    pixels = np.stack([fitted(image, image_size, side) for image in images]).astype("float32")
    predictions = model.predict(pixels, batch_size=BATCH_SIZE, verbose=0)
    sizes = [(image.height, image.width) for image in images]
    return _in_own_pixels(model, predictions, sizes, image_size, side)


def _in_own_pixels(model, predictions, sizes, *fitting):
    given = sorted(predictions) if isinstance(predictions, dict) else []
    if not set(_KEYS) <= set(given):
        raise ModelError(
            f"The model {model.name!r} must predict a dict of {', '.join(_KEYS)}, received "
            f"{given or type(predictions)}."
        )
    boxes, classes, confidence, counts = (np.asarray(predictions[key]) for key in _KEYS)
    detections = []
    for i, (height, width) in enumerate(sizes):
        own = slice(int(counts[i]))
        edges = boxes[i, own] / np.tile(fitted_scale(height, width, *fitting), 2)
        # Of a detector of ours all confidences, if anything that it predicts is no number.
        if not (np.isfinite(edges).all() and np.isfinite(confidence[i]).all()):
            raise ModelError(f"The model {model.name!r} predicts numbers that are not finite.")
        found = {
            "boxes": np.clip(edges, 0, [width, height, width, height]).astype("float32"),
            "classes": classes[i, own].astype("int64"),
            "confidence": confidence[i, own].astype("float32"),
        }
        detections.append(found)
    return detections


def evaluate_detector(
    model: Any, detection_set: DetectionSet, image_size: int, batch_size: int = BATCH_SIZE
) -> dict[str, Any]:
    """COCO's and VOC's metrics of a detector.

    Args:
        model, detection_set, image_size, batch_size: see `predict_detections`.

    Returns:
        Dict: COCO's twelve, see `coco_metrics`; `"VOC07"` and `"VOC10"`, see `voc_metrics`;
        `"per_class"`, `{class name: {"AP": ..., "AP50": ..., "VOC07": ..., "VOC10": ...}}`;
        `"images"`, `"objects"` (without ignored ones) and `"image_size"`; and `"skipped"`, a list
        of lines on what was left out or mended. Without objects, a metric is -1.

    Raises:
        ModelError: also if the model has other classes than the set, or predicts such.
        DataError, ValueError: see `predict_detections`.

    Example:

    >>> evaluate_detector(model, clothing_scenes(100, "test"), image_size=96)["AP50"]
    """
    classes = len(detection_set.class_names)
    known = getattr(model, "num_classes", classes)
    if known != classes:
        raise ModelError(
            f"The model {model.name!r} must have the {classes} classes of {detection_set.name!r}, "
            f"received one of {known}."
        )
    detections = predict_detections(model, detection_set, image_size, batch_size)
    measured, _ = measure(model, detection_set.readable(), detections, image_size)
    return {**measured, "skipped": detection_set.all_skipped()}


def measure(model, detection_set, detections, image_size):
    """The metrics of `evaluate_detector`, of what `predict_detections` returned, and the curves."""
    classes = len(detection_set.class_names)
    highest = max((found["classes"].max(initial=-1) for found in detections), default=-1)
    if highest >= classes:
        raise ModelError(
            f"The model {model.name!r} must predict classes below {classes}, as the images of "
            f"{detection_set.name!r} have, received {highest}."
        )
    metrics, curves = metrics_and_curves(detection_set, detections)
    voc = voc_metrics(detection_set, detections)
    for name, values in voc.pop("per_class").items():
        metrics["per_class"][name].update(values)
    objects = int(sum((~ignored).sum() for ignored in detection_set.ignored))
    counts = {"images": len(detection_set), "objects": objects, "image_size": image_size}
    return {**metrics, **voc, **counts}, curves


def evaluate_run(
    run: Any, data: Any = None, split: str | None = None, batch_size: int | None = None
) -> dict[str, Any]:
    """Measures the detector of a run.

    Args:
        run: `SavedRun`, or path of the folder of a run or of a `.keras` file.
        data: other data than the run's, see `load_detection_data`; their classes are found by name
            among the model's. Defaults to `None`.
        split: `"test"`, `"validation"` (`"val"`) or `"train"`. Defaults to `None`: the test part;
            of other data in one part, all.
        batch_size: int. Defaults to `None`: the run's.

    Returns:
        As `evaluate_detector`, and `"data"`, the name of the data, and `"split"`.

    Raises:
        ModelError: if it is not a trained detector.
        DataError: if the data cannot be used, or have a class that the model does not know.
        ValueError: if there are no data, or no such split.

    Example:

    >>> evaluate_run("run")["AP50"]
    """
    one_of(None, *SPLITS)("split", split)
    run, model, class_names = load_run(run)
    part, size = SPLITS[split or "test"], model.image_size[0]
    detection_set = part_of(run_data(run, size, data, split), part)
    if class_names is not None:
        detection_set = detection_set.with_classes(class_names)
    if batch_size is None:
        batch_size = int(run.arguments.get("batch_size", BATCH_SIZE))
    measured = evaluate_detector(model, detection_set, size, batch_size)
    return {**measured, "data": detection_set.name, "split": part}


def run_data(run, image_size, data=None, split=None, train_scenes=1):
    """The `DetectionData` of a `SavedRun`, or others as for `evaluate_run`; scenes of that size."""
    args = run.complete(DetectorArguments) if run.task else DetectorArguments.given()
    is_own = data is None or (run.task is not None and existing_path(data) == args.data)
    source = args.data if data is None else data

    def load():
        return load_detection_data(
            source,
            args.seed,
            # Scenes take time to draw.
            train_scenes=args.train_scenes if split == "train" else train_scenes,
            test_scenes=args.test_scenes,
            image_size=image_size,
            strict=args.strict,
            test_fraction=0.2 if is_own or split is not None else None,
            splits=args.splits if is_own else (None, None, None),
        )

    # Not all scenes are drawn, and they do not change.
    return run.own_data(load, may_differ=args.data == SCENES) if is_own else load()


def part_of(data, name):
    """A part of the `DetectionData`; DataError if it has no images."""
    part = getattr(data, name)
    if not len(part):
        raise DataError(f"{data.name!r} must have a {name} part, received none.")
    return part


def check_detections(expected, found, allowed, largest_unpaired=LARGEST_UNPAIRED):
    """The largest differences of paired detections, boxes in pixels, and the part `"unpaired"`.

    Pairs are of one class; confidences, and edges by the largest edge, differ by at most `allowed`.
    TrainingError if more than `largest_unpaired` have no counterpart.
    """
    largest = {"confidence": 0.0, "boxes": 0.0}
    total = unpaired = 0
    side = max(np.max(each["boxes"], initial=1) for each in (expected, found))
    for image in range(len(expected["classes"])):
        one, other = (
            {key: values[key][image][values["classes"][image] >= 0] for key in _KEYS[:3]}
            for values in (expected, found)
        )
        boxes = np.abs(one["boxes"][:, None] - other["boxes"][None]).max(axis=-1, initial=0)
        confidence = np.abs(one["confidence"][:, None] - other["confidence"][None])
        is_same = one["classes"][:, None] == other["classes"][None]
        is_pair = is_same & (boxes <= allowed * side) & (confidence <= allowed)
        for axis in (0, 1):
            has_pair = is_pair.any(axis=axis)
            total += has_pair.size
            unpaired += int((~has_pair).sum())
            for name, values in (("confidence", confidence), ("boxes", boxes)):
                nearest = np.where(is_pair, values, np.inf).min(axis=axis, initial=np.inf)
                largest[name] = max(largest[name], float(nearest[has_pair].max(initial=0)))
    part = unpaired / max(total, 1)
    if part > largest_unpaired:
        raise TrainingError(
            f"{part:.1%} of the detections are others, allowed {largest_unpaired:.0%}"
        )
    return {**largest, "unpaired": part}
