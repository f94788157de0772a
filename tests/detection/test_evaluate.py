import keras
import numpy as np
import pytest

from keras_cbam.detection import coco_folder, evaluate_detector, predict_detections
from keras_cbam.errors import DataError, ModelError
from tests.detection.folders import coco_box, coco_json, write_coco, write_picture
from tests.detection.sets import make_set

CAT, DOG = [10, 20, 50, 60], [40, 0, 100, 30]


@keras.saving.register_keras_serializable(package="tests")
class Known(keras.layers.Layer):
    """The same boxes for each picture, padded with one that `num_detections` leaves out."""

    def __init__(self, boxes, classes, confidence):
        super().__init__()
        self.known = {
            "boxes": np.array([*boxes, [-1] * 4], "float32"),
            "classes": np.array([*classes, -1], "float32"),
            "confidence": np.array([*confidence, -1], "float32"),
            "num_detections": np.array(len(classes), "int32"),
        }

    def call(self, images):
        batch = keras.ops.shape(images)[0]
        return {
            name: keras.ops.broadcast_to(value, (batch, *value.shape))
            for name, value in self.known.items()
        }


def detector(size, boxes, classes, confidence):
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, Known(boxes, classes, confidence)(inputs))


def test_boxes_in_pixels_of_the_picture():
    data = make_set([[CAT]] * 3, [[0]] * 3)
    model = detector(50, [[5, 10, 25, 30], [40, 40, 60, 60]], [0, 1], [0.5, 0.25])
    detections = predict_detections(model, data, 50, batch_size=2)
    assert len(detections) == 3
    for found in detections:
        np.testing.assert_allclose(found["boxes"], [CAT, [80, 80, 100, 100]])
        np.testing.assert_array_equal(found["classes"], [0, 1])
        np.testing.assert_array_equal(found["confidence"], [0.5, 0.25])


def test_boxes_of_pictures_that_are_not_square(tmp_path):
    # 40 by 30 pixels, to 20 by 15: what is found in the padding below is not in the picture.
    data = coco_folder(write_coco(tmp_path)).test
    (found,) = predict_detections(detector(20, [[2.5, 5, 5, 20]], [0], [1.0]), data, 20)
    np.testing.assert_allclose(found["boxes"], [[5, 10, 10, 30]])


def test_report():
    data = make_set([[CAT, DOG], [CAT], []], [[0, 1], [0], []], class_names=("cat", "dog", "cow"))
    perfect_cat = detector(100, [CAT], [0], [0.9])
    report = evaluate_detector(perfect_cat, data, 100, batch_size=2)
    # Equally sure detections are taken in the order of the pictures: two are right, then one wrong.
    assert report["per_class"]["cat"] == {"AP": 1.0, "AP50": 1.0, "VOC07": 1.0}
    assert report["per_class"]["dog"] == {"AP": 0.0, "AP50": 0.0, "VOC07": 0.0}
    assert report["per_class"]["cow"] == {"AP": -1.0, "AP50": -1.0, "VOC07": -1.0}
    assert report["AP"] == report["AP50"] == report["VOC07"] == 0.5
    assert (report["pictures"], report["objects"], report["image_size"]) == (3, 3, 100)
    assert report["skipped"] == {}


def test_a_detector_that_finds_nothing():
    data = make_set([[CAT]], [[0]])
    report = evaluate_detector(detector(100, np.zeros((0, 4)), [], []), data, 100)
    assert report["AP50"] == report["VOC07"] == 0.0


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (([CAT], [2], [0.5]), "must predict classes below 2, .*received 2"),
        (([[0, 0, np.nan, 1]], [0], [0.5]), "not finite"),
        (([CAT], [0], [np.inf]), "not finite"),
    ],
)
def test_predictions_that_are_none(known, message):
    with pytest.raises(ModelError, match=message):
        evaluate_detector(detector(100, *known), make_set([[CAT]], [[0]]), 100)


def test_a_model_that_is_no_detector():
    inputs = keras.Input((100, 100, 3))
    data = make_set([[CAT]], [[0]])
    for outputs in (inputs, {"boxes": inputs}):
        with pytest.raises(ModelError, match="must predict a dict of boxes, classes"):
            evaluate_detector(keras.Model(inputs, outputs), data, 100)


def test_a_picture_that_cannot_be_read(tmp_path):
    write_coco(tmp_path)
    write_picture(tmp_path / "val2017" / "c.png", width=7)
    coco_json(
        tmp_path / "annotations" / "instances_val2017.json",
        {9: "c.png"},
        [coco_box(9, [1, 1, 5, 5])],
    )
    data = coco_folder(tmp_path).test
    with pytest.raises(DataError, match="must be 40 pixels wide"):
        predict_detections(detector(20, [CAT], [0], [1.0]), data, 20)
