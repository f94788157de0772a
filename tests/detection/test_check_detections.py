import numpy as np
import pytest

from keras_cbam.detection import DetectionTask
from keras_cbam.detection.evaluate import check_detections
from keras_cbam.errors import TrainingError
from tests.detection.sets import detected

BOXES = [[0, 0, 10, 100], [5, 5, 20, 20], [-1] * 4]


def batch(*arguments):
    return {key: value[None] for key, value in detected(*arguments).items()}


ONE = batch(BOXES, [0, 1, -1], [0.9, 0.5, -1])
# The other way round, with an edge half a pixel off and a confidence 0.1 off.
OTHER = batch([BOXES[1], [0, 0, 10, 99.5], BOXES[2]], [1, 0, -1], [0.4, 0.9, -1])


@pytest.mark.parametrize(
    ("found", "allowed", "expected"),
    [
        (ONE, 0, {"confidence": 0, "boxes": 0, "unpaired": 0}),
        (OTHER, 0.2, {"confidence": 0.1, "boxes": 0.5, "unpaired": 0}),
        (OTHER, 0.01, {"confidence": 0, "boxes": 0.5, "unpaired": 0.5}),
        (OTHER, 0.001, {"confidence": 0, "boxes": 0, "unpaired": 1}),
        ({**ONE, "classes": np.array([[1, 1, -1]])}, 0.01, {"boxes": 0, "unpaired": 0.5}),
        (batch([[-1] * 4] * 3, [-1] * 3, [-1] * 3), 0.01, {"boxes": 0, "unpaired": 1}),
    ],
)
def test_detections_are_paired(found, allowed, expected):
    for pair in ((ONE, found), (found, ONE)):
        result = check_detections(*pair, allowed, largest_unpaired=1)
        assert {key: result[key] for key in expected} == pytest.approx(expected)


def test_one_in_a_hundred_may_have_no_counterpart():
    generator = np.random.default_rng(0)
    boxes = np.sort(generator.uniform(0, 100, (1, 200, 2, 2)), axis=2).reshape(1, 200, 4)
    expected = {
        "boxes": boxes,
        "classes": np.zeros((1, 200)),
        "confidence": generator.uniform(size=(1, 200)),
    }
    for count, is_alike in ((2, True), (3, False)):
        classes = np.zeros((1, 200))
        classes[0, :count] = 1
        found = {**expected, "classes": classes}
        if is_alike:
            assert DetectionTask.compare(expected, found, 1e-5)["unpaired"] == 0.01
        else:
            with pytest.raises(TrainingError, match=r"1\.5% of the detections are others"):
                DetectionTask.compare(expected, found, 1e-5)
