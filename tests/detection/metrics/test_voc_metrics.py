import numpy as np
import pytest

from keras_cbam.detection import voc_metrics
from tests.detection.sets import detected, make_set, random_case

CAT = [10, 10, 50, 50]


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area - width * height)


def by_definition(truth, found, kind):
    """`VOCevaldet.m` and 2010's `VOCap.m` line by line: one list of detections over all images."""
    rows = [
        (float(score), i, [float(x) for x in box])
        for i, each in enumerate(found)
        for box, its_kind, score in zip(*each.values())
        if its_kind == kind
    ]
    rows.sort(key=lambda row: -row[0])
    objects = [
        [
            ([float(x) for x in box], bool(hard))
            for box, its_kind, hard in zip(*each)
            if its_kind == kind
        ]
        for each in zip(truth.boxes, truth.classes, truth.ignored)
    ]
    positives = sum(not hard for each in objects for _, hard in each)
    taken, right, wrong, recalls, precisions = set(), 0, 0, [], []
    for _, i, box in rows:
        best, which = 0.0, None
        for j, (other, _) in enumerate(objects[i]):
            if overlap(box, other) > best:
                best, which = overlap(box, other), j
        if best >= 0.5:
            if not objects[i][which][1]:
                if (i, which) in taken:
                    wrong += 1
                else:
                    right += 1
                    taken.add((i, which))
        else:
            wrong += 1
        recalls.append(right / positives if positives else 0)
        precisions.append(right / max(right + wrong, 1))
    if not positives:
        return {"VOC07": -1.0, "VOC10": -1.0}
    total = 0.0
    for tenths in range(11):
        reached = [p for r, p in zip(recalls, precisions) if r >= tenths / 10 - 1e-12]
        total += max(reached, default=0.0) / 11
    recalls, precisions = [0, *recalls, 1], [0, *precisions, 0]
    area = 0.0
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    for i in range(1, len(recalls)):
        area += (recalls[i] - recalls[i - 1]) * precisions[i]
    return {"VOC07": total, "VOC10": area}


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_definition(seed):
    truth, found = random_case(np.random.default_rng(seed))
    metrics = voc_metrics(truth, found)
    expected = [by_definition(truth, found, kind) for kind in range(3)]
    for own, theirs in zip(metrics["per_class"].values(), expected, strict=True):
        assert own == pytest.approx(theirs, abs=1e-12)
    for name in ("VOC07", "VOC10"):
        mean = np.mean([own[name] for own in expected])
        assert metrics[name] == pytest.approx(mean, abs=1e-12)
        assert 0 < metrics[name] < 1
    assert metrics["VOC07"] != metrics["VOC10"]


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        # Right, wrong: precision 1 up to recall 1/2, at 0, .1, ... .5; nothing beyond.
        ([0.9, 0.1], (6 / 11, 1 / 2)),
        # Wrong, right: the best precision at recall 1/2 is 1/2.
        ([0.1, 0.9], (3 / 11, 1 / 4)),
    ],
)
def test_by_hand(confidence, expected):
    truth = make_set([[CAT, [60, 60, 90, 90]]], [[0, 0]])
    found = detected([CAT, [0, 60, 20, 90]], [0, 0], confidence)
    found = voc_metrics(truth, [found])["per_class"]["cat"]
    assert (found["VOC07"], found["VOC10"]) == pytest.approx(expected)


def test_a_second_detection_of_an_object_is_wrong():
    truth = make_set([[CAT], [CAT]], [[0], [0]])
    found = [detected([CAT, CAT], [0, 0], [0.9, 0.8]), detected([CAT], [0], [0.1])]
    # Right, wrong, right: precision 1 up to recall .5, then 2/3.
    metrics = voc_metrics(truth, found)
    assert metrics["VOC07"] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert metrics["VOC10"] == pytest.approx((1 + 2 / 3) / 2)


def test_difficult_objects_count_neither_way():
    truth = make_set([[CAT, [60, 60, 90, 90]]], [[0, 0]], [[True, False]])
    difficult, other = detected([CAT, CAT], [0, 0]), detected([[60, 60, 90, 90]], [0])
    assert voc_metrics(truth, [difficult])["VOC07"] == 0.0
    both = {key: np.concatenate([difficult[key], other[key]]) for key in difficult}
    assert voc_metrics(truth, [both])["VOC07"] == pytest.approx(1.0)


def test_overlap_of_one_half_is_enough():
    truth = make_set([[[0, 0, 20, 20]]], [[0]])
    half = detected([[0, 0, 10, 20]], [0])
    assert voc_metrics(truth, [half])["VOC07"] == pytest.approx(1.0)
    less = detected([[0, 0, 9.9, 20]], [0])
    assert voc_metrics(truth, [less])["VOC07"] == 0.0


def test_without_objects_or_area():
    truth, nothing = make_set([[]], [[]]), {"VOC07": -1.0, "VOC10": -1.0}
    assert voc_metrics(truth, [detected([CAT], [0])]) == {
        **nothing,
        "per_class": {"cat": nothing, "dog": nothing},
    }
    truth = make_set([[CAT]], [[0]])
    assert voc_metrics(truth, [detected([[9, 9, 9, 9]], [0])])["VOC07"] == 0.0
