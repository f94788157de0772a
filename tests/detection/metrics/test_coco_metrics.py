import contextlib
import io
import json

import numpy as np
import pytest

from keras_cbam.detection import coco_metrics, precision_recall
from keras_cbam.detection.metrics.coco_metrics import metrics_and_curves
from tests.detection.sets import detected, make_set, random_case

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
NAMES += ("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl")


def by_files(truth, found, folder):
    """The twelve as everyone gets them: annotations and results in files, for pycocotools."""
    annotations = [
        {
            "id": 1000 * i + j + 1,
            "image_id": 7 * i,
            "category_id": 10 + int(truth.classes[i][j]),
            "bbox": [float(x), float(y), float(right) - float(x), float(bottom) - float(y)],
            "area": float(truth.areas[i][j]),
            "iscrowd": int(truth.ignored[i][j]),
        }
        for i in range(len(truth))
        for j, (x, y, right, bottom) in enumerate(truth.boxes[i])
    ]
    results = [
        {
            "image_id": 7 * i,
            "category_id": 10 + int(kind),
            "bbox": [float(x), float(y), float(right) - float(x), float(bottom) - float(y)],
            "score": float(score),
        }
        for i, each in enumerate(found)
        for (x, y, right, bottom), kind, score in zip(*each.values())
    ]
    categories = [{"id": 10 + i, "name": name} for i, name in enumerate(truth.class_names)]
    images = [{"id": 7 * i, "width": 100, "height": 100} for i in range(len(truth))]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(whole))
    (folder / "results.json").write_text(json.dumps(results))
    COCO = pytest.importorskip("pycocotools.coco").COCO
    COCOeval = pytest.importorskip("pycocotools.cocoeval").COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        whole = list(evaluation.stats)
        per_class = {}
        for category in categories:
            evaluation.params.catIds = [category["id"]]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            per_class[category["name"]] = evaluation.stats[:2].tolist()
    return whole, per_class


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools_on_files(seed, tmp_path, capsys):
    truth, found = random_case(np.random.default_rng(seed))
    whole, per_class = by_files(truth, found, tmp_path)
    metrics = coco_metrics(truth, found)
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose([metrics[name] for name in NAMES], whole, atol=1e-12)
    assert 0 < metrics["AP"] < metrics["AP50"] < 1
    for name, expected in per_class.items():
        np.testing.assert_allclose(list(metrics["per_class"][name].values()), expected, atol=1e-12)


def test_perfect_and_empty_detections():
    boxes = [[[10, 10, 50, 50]], [[0, 0, 20, 20], [30, 30, 90, 90]]]
    truth = make_set(boxes, [[0], [0, 0]])
    perfect = coco_metrics(truth, [detected(boxes[0], [0]), detected(boxes[1], [0, 0])])
    assert perfect["AP"] == perfect["ARmax100"] == 1.0
    # No dog is there to be found.
    assert perfect["per_class"] == {
        "cat": {"AP": 1.0, "AP50": 1.0},
        "dog": {"AP": -1.0, "AP50": -1.0},
    }
    nothing = coco_metrics(truth, [detected()] * 2)
    assert nothing["AP"] == nothing["ARmax100"] == 0.0


def test_no_objects():
    truth = make_set([[], []], [[], []])
    metrics = coco_metrics(truth, [detected([[1, 1, 9, 9]], [1]), detected()])
    assert [metrics[name] for name in NAMES] == [-1.0] * 12


def test_images_without_detections_count():
    boxes = [[[10, 10, 50, 50]]] * 4
    truth = make_set(boxes, [[0]] * 4)
    found = [detected(boxes[0], [0])] + [detected()] * 3
    # Recall 1/4 at precision 1: 26 of the 101 recalls 0, .01, ... are reached.
    assert coco_metrics(truth, found)["AP"] == pytest.approx(26 / 101)


def test_one_dict_an_image():
    with pytest.raises(ValueError, match=r"Received: len\(detections\)=1"):
        coco_metrics(make_set([[], []], [[], []]), [detected()])


def test_metrics_and_curves_take_one_evaluation(monkeypatch):
    import faster_coco_eval

    truth, found = random_case(np.random.default_rng(0))
    runs = []
    run = faster_coco_eval.COCOeval_faster.run
    monkeypatch.setattr(
        faster_coco_eval.COCOeval_faster, "run", lambda self: runs.append(1) or run(self)
    )
    metrics, curves = metrics_and_curves(truth, found)
    assert len(runs) == 1
    for name, curve in curves.items():
        assert curve.mean() == pytest.approx(metrics["per_class"][name]["AP50"])
    np.testing.assert_array_equal(precision_recall(truth, found)[name], curve)
