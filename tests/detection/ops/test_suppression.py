import numpy as np
from keras import ops

from keras_cbam.detection.ops.suppression import suppress_in_groups


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


def test_suppression_within_groups_is_the_reference():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 30, (3, 60, 2))
    sides = generator.uniform(8, 20, (3, 60, 2))
    boxes = np.concatenate([corners, corners + sides], axis=-1).astype("float32")
    confidence = generator.permuted(np.linspace(0.01, 0.99, 180)).reshape(3, 60).astype("float32")
    groups = generator.integers(0, 3, (3, 60))
    found = suppress_in_groups(
        ops.convert_to_tensor(boxes),
        ops.convert_to_tensor(confidence),
        ops.convert_to_tensor(groups, dtype="int32"),
        (40, 50),
        iou_threshold=0.2,
        confidence_threshold=0.3,
        max_detections=18,
    )
    found = {name: ops.convert_to_numpy(values) for name, values in found.items()}
    counts = []
    for picture in range(3):
        own = boxes[picture], confidence[picture], groups[picture]
        kept = reference(*own, 0.2, 0.3, 18)
        count = found["num_detections"][picture]
        assert count == len(kept)
        counts.append(count)
        for name, values in zip(("boxes", "confidence", "classes"), own):
            np.testing.assert_allclose(found[name][picture, :count], values[kept], atol=1e-5)
            assert (found[name][picture, count:] == -1).all()
    assert min(counts) < 18 == max(counts)
