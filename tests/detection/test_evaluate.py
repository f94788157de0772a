import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam.detection import (
    DetectionTask,
    clothing_scenes,
    coco_folder,
    evaluate,
    evaluate_detector,
    evaluate_run,
    predict_detections,
)
from keras_cbam.detection.evaluate import check_detections
from keras_cbam.errors import DataError, ModelError, TrainingError
from tests.detection.folders import (
    coco_box,
    coco_json,
    cut_short,
    write_coco,
    write_image,
    write_many,
)
from tests.detection.sets import detected, make_set

CAT, DOG = [10, 20, 50, 60], [40, 0, 100, 30]


@keras.saving.register_keras_serializable(package="tests")
class Known(keras.layers.Layer):
    """The same boxes for each image, padded with one that `num_detections` leaves out."""

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


def test_boxes_in_pixels_of_the_image():
    data = make_set([[CAT]] * 3, [[0]] * 3)
    model = detector(50, [[5, 10, 25, 30], [40, 40, 60, 60]], [0, 1], [0.5, 0.25])
    detections = predict_detections(model, data, 50, batch_size=2)
    assert len(detections) == 3
    for found in detections:
        np.testing.assert_allclose(found["boxes"], [CAT, [80, 80, 100, 100]])
        np.testing.assert_array_equal(found["classes"], [0, 1])
        np.testing.assert_array_equal(found["confidence"], [0.5, 0.25])


def test_boxes_of_images_that_are_not_square(tmp_path):
    # 40 by 30 pixels, to 20 by 15: what is found in the padding below is not in the image.
    data = coco_folder(write_coco(tmp_path)).test
    (found,) = predict_detections(detector(20, [[2.5, 5, 5, 20]], [0], [1.0]), data, 20)
    np.testing.assert_allclose(found["boxes"], [[5, 10, 10, 30]])


def test_boxes_of_a_model_that_fits_the_short_side(tmp_path):
    """40 by 30 pixels, to 16 by 12 in a square of 20."""
    data = coco_folder(write_coco(tmp_path)).test
    model = detector(20, [[2, 4, 4, 20]], [0], [1.0])
    model.short_side = 12
    seen = []
    predict = model.predict

    def spy(batches, **options):
        found = batches if isinstance(batches, np.ndarray) else next(iter(batches))
        seen.append(np.asarray(found))
        return predict(batches, **options)

    model.predict = spy
    write_image(tmp_path / "val2017" / "c.png", colour=255)
    (found,) = predict_detections(model, data, 20)
    model.image_size = (20, 20)
    (other,) = evaluate.find_objects(model, [Image.fromarray(data.images[0])])
    for one in (found, other):
        np.testing.assert_allclose(one["boxes"], [[5, 10, 10, 30]])
    for (pixels,) in seen:
        assert (pixels[:12, :16] == 255).all()
        assert pixels[12:].max() == pixels[:, 16:].max() == 0


def test_report():
    data = make_set([[CAT, DOG], [CAT], []], [[0, 1], [0], []], class_names=("cat", "dog", "cow"))
    perfect_cat = detector(100, [CAT], [0], [0.9])
    report = evaluate_detector(perfect_cat, data, 100, batch_size=2)
    names = ("AP", "AP50", "VOC07", "VOC10")
    # Equally sure detections are taken in the order of the images: two are right, then one wrong.
    assert report["per_class"]["cat"] == dict.fromkeys(names, 1.0)
    assert report["per_class"]["dog"] == dict.fromkeys(names, 0.0)
    assert report["per_class"]["cow"] == dict.fromkeys(names, -1.0)
    assert report["AP"] == report["AP50"] == report["VOC07"] == report["VOC10"] == 0.5
    assert (report["images"], report["objects"], report["image_size"]) == (3, 3, 100)
    assert report["skipped"] == []


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


@pytest.fixture
def folder(tmp_path):
    return write_many(tmp_path / "data", 20)


def test_an_image_that_cannot_be_read_is_not_measured(folder):
    data = coco_folder(folder).train
    cut_short(data.images.paths[3])
    # The box of image 3.
    model = detector(20, [[0, 0, 2, 4.5]], [0], [1.0])
    found = predict_detections(model, data, 20, batch_size=4)
    assert len(found) == 19
    report = evaluate_detector(model, data, 20, batch_size=4)
    others = coco_folder(folder).train.select([i for i in range(20) if i != 3])
    assert (report["images"], report["objects"]) == (19, 19)
    assert report["AP"] == evaluate_detector(model, others, 20)["AP"]
    assert report["skipped"][0].startswith(f"{data.images.paths[3]}: ")


def test_too_many_images_that_cannot_be_read(folder):
    data = coco_folder(folder, strict=True).train
    cut_short(data.images.paths[3])
    with pytest.raises(DataError, match=r"1 of 20 images cannot be read, the first is .*03\.png"):
        predict_detections(detector(20, [CAT], [0], [1.0]), data, 20)


def numbers(result):
    found = {name: value for name, value in result.items() if isinstance(value, float)}
    for name, values in result["per_class"].items():
        found |= {f"{name} {metric}": value for metric, value in values.items()}
    return found


@pytest.mark.parametrize("given", [{}, {"data": "scenes"}, {"split": "val"}, {"batch_size": 1}])
def test_a_run_is_measured_as_its_report_says(finished, given):
    result = evaluate_run(finished.output, **given)
    assert numbers(result) == pytest.approx(numbers(finished.report), abs=1e-6)
    assert result["data"] == "clothing_scenes"
    # Scenes have two parts.
    assert result["split"] == ("validation" if "split" in given else "test")


@pytest.mark.parametrize(("given", "expected"), [({}, 4), ({"batch_size": 3}, 3)])
def test_the_batch_size(finished, monkeypatch, given, expected):
    seen = []

    def spy(model, detection_set, image_size, batch_size):
        seen.append((image_size, batch_size))
        return {}

    monkeypatch.setattr(evaluate, "evaluate_detector", spy)
    evaluate_run(finished.output, **given)
    assert seen == [(32, expected)]


def test_the_training_part(finished):
    result = evaluate_run(finished.output, split="train")
    assert (result["images"], result["split"]) == (10, "train")


def run_like(finished, tmp_path, digest=None, **arguments):
    """A run of the same model, which has other arguments."""
    run = shutil.copytree(finished.output, tmp_path / "run")
    told = json.loads((run / "arguments.json").read_text())
    told["arguments"].update(arguments)
    (run / "arguments.json").write_text(json.dumps(told))
    report = json.loads((run / "report.json").read_text())
    report["data"]["digest"] = digest
    (run / "report.json").write_text(json.dumps(report))
    return run


def test_the_seed_of_the_run_is_taken(finished, tmp_path):
    run = run_like(finished, tmp_path, seed=7, test_scenes=5)
    result = evaluate_run(run)
    scenes = clothing_scenes(5, "test", 32, seed=7)
    assert (result["images"], result["objects"]) == (5, sum(map(len, scenes.classes)))


def whole_folder(folder, classes, count=10):
    """A folder without parts; each image has a box of the first class."""
    names = {i: f"{i}.png" for i in range(count)}
    for i, name in names.items():
        write_image(folder / "images" / name, colour=20 * i)
    boxes = [coco_box(i, [1, 1, 30, 20]) for i in names]
    coco_json(folder / "annotations.json", names, boxes, list(enumerate(classes, 1)))
    return folder


def test_other_data_are_matched_by_name(finished, tmp_path):
    # Of an index of its own in the data, and of index 8 in the model.
    data = whole_folder(tmp_path / "data", ["Bag", "unused"])
    result = evaluate_run(finished.output, data=data)
    assert (result["images"], result["data"], result["split"]) == (10, "data", "test")
    assert list(result["per_class"]) == finished.data.class_names
    has_objects = [name for name, values in result["per_class"].items() if values["AP"] >= 0]
    assert has_objects == ["Bag"]
    model = detector(32, [[1, 1, 25, 17]], [finished.data.class_names.index("Bag")], [0.9])
    part = coco_folder(data, test_fraction=None).test.with_classes(finished.data.class_names)
    assert evaluate_detector(model, part, 32)["per_class"]["Bag"]["AP50"] == 1
    assert evaluate_run(finished.output, data=data, split="test")["images"] == 2


def test_a_class_that_the_model_does_not_know(finished, tmp_path):
    data = whole_folder(tmp_path / "data", ["zebra", "Bag"])
    with pytest.raises(DataError, match="The class 'zebra' of 'data' is not one of the 10 classes"):
        evaluate_run(finished.output, data=data)


def test_the_own_folder_is_split_as_in_the_training(finished, tmp_path):
    data = whole_folder(tmp_path / "data", finished.data.class_names)
    run = run_like(finished, tmp_path, data=str(data), seed=3)
    for given in ({}, {"data": data}):
        assert evaluate_run(run, **given)["images"] == 2


def test_an_own_folder_that_has_changed(finished, tmp_path):
    """Another image moves the split, so that some of the test part were trained on."""
    data = whole_folder(tmp_path / "data", finished.data.class_names)
    run = run_like(finished, tmp_path, coco_folder(data).identity(), data=str(data))
    assert evaluate_run(run)["images"] == 2
    whole_folder(data, finished.data.class_names, count=11)
    for given in ({}, {"data": data}):
        with pytest.raises(DataError, match="'data' have changed: pass others by --data"):
            evaluate_run(run, **given)


def test_a_file_alone(finished, tmp_path):
    path = shutil.copy(finished.output / "model.keras", tmp_path / "alone.keras")
    with pytest.raises(ValueError, match=r"alone\.keras' is a model without a run.*pass `data`"):
        evaluate_run(path)
    data = whole_folder(tmp_path / "data", [f"class {i}" for i in range(10)])
    assert evaluate_run(path, data=data)["images"] == 10
    few = whole_folder(tmp_path / "few", ["cat"])
    with pytest.raises(ModelError, match="must have the 1 classes of 'few', received one of 10"):
        evaluate_run(path, data=few)


def test_there_is_no_such_split(finished, tmp_path):
    with pytest.raises(ValueError, match="Received: split='valid'"):
        evaluate_run(finished.output, split="valid")
    data = write_coco(tmp_path / "data")
    (data / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(DataError, match="'data' must have a train part, received none"):
        evaluate_run(finished.output, data=data, split="train")


def test_a_batch_of_no_image(finished):
    with pytest.raises(ValueError, match="Received: batch_size=0"):
        evaluate_run(finished.output, batch_size=0)


def test_weights_that_are_no_numbers_do_not_look_like_nothing_found(finished):
    model = keras.models.clone_model(finished.model)
    model.set_weights(finished.model.get_weights())
    test = finished.data.test.select([0, 1])
    predict_detections(model, test, 32)
    for name in ("class_1", "box_2"):
        layer = model.head.get_layer(name)
        kernel, bias = layer.get_weights()
        layer.set_weights([np.full_like(kernel, np.nan), bias])
        with pytest.raises(ModelError, match="predicts numbers that are not finite"):
            predict_detections(model, test, 32)
        with pytest.raises(ModelError, match="predicts numbers that are not finite"):
            evaluate.find_objects(model, [Image.fromarray(test.images[0])])
        layer.set_weights([kernel, bias])


def test_data_that_do_not_fit_the_detector(finished):
    with pytest.raises(ValueError, match=r"must be that of the images of the model.*image_size=64"):
        evaluate_detector(finished.model, clothing_scenes(1, "test", 64), 64)
    other = make_set([[CAT]], [[0]])
    with pytest.raises(ModelError, match="must have the 2 classes of 'set', received one of 10"):
        evaluate_detector(finished.model, other, 32)


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
