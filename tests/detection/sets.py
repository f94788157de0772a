"""Small sets of images with boxes, and detections of them, for the tests."""

import numpy as np

from keras_cbam.detection import DetectionSet


def make_set(boxes, classes, ignored=None, size=100, class_names=("cat", "dog"), images=None):
    """A `DetectionSet` of square images; `boxes` and `classes` are lists with one per image."""
    boxes = [np.array(each, "float32").reshape(-1, 4) for each in boxes]
    classes = [np.array(each, "int32") for each in classes]
    if ignored is None:
        ignored = [[False] * len(each) for each in classes]
    return DetectionSet(
        "set",
        list(class_names),
        np.zeros((len(boxes), size, size, 3), "uint8") if images is None else images,
        np.full((len(boxes), 2), size),
        boxes,
        classes,
        [np.array(each, bool) for each in ignored],
        [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in boxes],
        list(range(len(boxes))),
        {},
    )


def detected(boxes=(), classes=(), confidence=None):
    confidence = np.ones(len(classes)) if confidence is None else confidence
    return {
        "boxes": np.array(boxes, "float32").reshape(-1, 4),
        "classes": np.array(classes, "int64"),
        "confidence": np.array(confidence, "float32"),
    }


def random_boxes(generator, count, size=100):
    corners = generator.uniform(0, 0.7 * size, (count, 2))
    sides = generator.uniform(4, 0.6 * size, (count, 2))
    return np.concatenate([corners, np.minimum(corners + sides, size)], axis=1).astype("float32")


def random_case(generator, images=20, classes=3, with_ignored=True):
    """A `DetectionSet`, and detections that are some of its boxes moved, and some of nowhere."""
    counts = generator.integers(0, 6, images)
    boxes = [random_boxes(generator, count) for count in counts]
    kinds = [generator.integers(0, classes, count) for count in counts]
    ignored = [(generator.random(count) < 0.2) & with_ignored for count in counts]
    names = [f"class {i}" for i in range(classes)]
    found = []
    for own, own_kinds in zip(boxes, kinds):
        moved = np.repeat(own, 2, axis=0)
        moved = np.clip(moved + generator.normal(0, 4, moved.shape), 0, 100)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        every = np.concatenate([moved, random_boxes(generator, 4)])
        its_kinds = np.concatenate([np.repeat(own_kinds, 2), generator.integers(0, classes, 4)])
        kept = generator.permutation(len(every))[: generator.integers(0, len(every) + 1)]
        # Few values, so that there are ties.
        confidence = generator.integers(0, 20, len(kept)) / 20
        found.append(detected(every[kept], its_kinds[kept], confidence))
    return make_set(boxes, kinds, ignored, class_names=names), found
