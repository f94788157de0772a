import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_cbam import cli
from keras_cbam.detection import predict_detections, predict_run
from keras_cbam.detection.predict import image_entry
from keras_cbam.errors import DataError
from tests.detection.folders import cut_short
from tests.detection.sets import detected


@pytest.fixture
def photos(tmp_path, finished):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(finished.data.test.images[0]).save(folder / "scene.png")
    Image.fromarray(np.full((30, 70, 3), 90, "uint8")).save(folder / "wide.png")
    shutil.copy(folder / "wide.png", folder / "broken.png")
    cut_short(folder / "broken.png")
    return folder


def test_a_folder_of_images(finished, photos):
    result = predict_run(finished.output, [photos])
    scene, wide = result["images"]
    assert (scene["image"], wide["image"]) == tuple(
        str(photos / name) for name in ("scene.png", "wide.png")
    )
    assert (wide["width"], wide["height"]) == (70, 30)
    (line,) = result["skipped"]
    assert line.startswith(f"{photos / 'broken.png'}: ")
    (expected, *_) = predict_detections(finished.model, finished.data.test, 32)
    assert len(scene["detections"]) == len(expected["classes"]) > 0
    best = expected["confidence"].argmax()
    first = scene["detections"][0]
    assert first["class"] == finished.data.class_names[expected["classes"][best]]
    assert first["class_index"] == expected["classes"][best]
    assert first["confidence"] == pytest.approx(expected["confidence"][best], abs=1e-4)
    np.testing.assert_allclose(first["box"], expected["boxes"][best], atol=0.01)
    for one in result["images"]:
        confidences = [each["confidence"] for each in one["detections"]]
        assert confidences == sorted(confidences, reverse=True)
        for each in one["detections"]:
            left, top, right, bottom = each["box"]
            assert 0 <= left <= right <= one["width"]
            assert 0 <= top <= bottom <= one["height"]


def test_what_is_told_of_an_image():
    boxes = [[0, 0, 2.004, 2], [0, 0, 3, 3]]
    found = detected(boxes, [1, 0], [0.90004, 0.5])
    entry = image_entry("a.png", Image.new("RGB", (7, 5)), found, ["cat", "dog"])
    assert [entry[name] for name in ("image", "width", "height")] == ["a.png", 7, 5]
    first, other = entry["detections"]
    expected = {"class": "dog", "class_index": 1, "confidence": 0.9, "box": [0.0, 0.0, 2.0, 2.0]}
    assert first == expected
    assert (other["class"], other["confidence"]) == ("cat", 0.5)


def test_classes_without_names(finished, photos, tmp_path):
    alone = shutil.copy(finished.output / "model.keras", tmp_path / "alone.keras")
    (one,) = predict_run(alone, [photos / "wide.png"])["images"]
    assert one["detections"][0]["class"].startswith("class ")


def test_the_command_knows_a_detector_without_its_run(finished, photos, tmp_path, capsys):
    alone = shutil.copy(finished.output / "model.keras", tmp_path / "alone.keras")
    assert cli.main(["predict", str(alone), str(photos / "wide.png"), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["images"]
    assert one["detections"] == predict_run(alone, [photos / "wide.png"])["images"][0]["detections"]


def test_no_image_can_be_read(finished, photos):
    with pytest.raises(DataError, match=r"None of the images can be read, .*broken\.png"):
        predict_run(finished.output, [photos / "broken.png"])
