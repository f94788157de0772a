import json

import numpy as np
import pytest
from PIL import Image

from keras_cbam.detection import explain_run, predict_run
from keras_cbam.errors import DataError
from tests.detection.folders import cut_short


@pytest.fixture
def photos(tmp_path):
    for name, height in (("a.png", 40), ("b.png", 30), ("broken.png", 20)):
        Image.fromarray(np.full((height, 70, 3), 90, "uint8")).save(tmp_path / name)
    cut_short(tmp_path / "broken.png")
    return tmp_path


def test_figures_and_what_they_show(finished, photos):
    output = photos / "found"
    result = explain_run(finished.output, [photos], output, threshold=0.2)
    names = ["a_detected.png", "b_detected.png", "detections.json"]
    assert result.pop("written") == [str(output / name) for name in names]
    assert sorted(path.name for path in output.iterdir()) == names
    assert json.loads((output / "detections.json").read_text()) == result
    predicted = predict_run(finished.output, [photos])
    assert result["skipped"] == predicted["skipped"]
    for one, other, name in zip(result["images"], predicted["images"], names):
        assert one == {**other, "figure": name}
    assert result["class_names"] == finished.data.class_names
    assert result["threshold"] == 0.2


def test_boxes_are_drawn_from_the_threshold_on(finished, photos):
    sizes = []
    for threshold in (0.0, 1.0):
        output = photos / str(threshold)
        explain_run(finished.output, [photos / "a.png"], output, threshold=threshold)
        with Image.open(output / "a_detected.png") as image:
            sizes.append(len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)))
    assert sizes[0] > sizes[1]


def test_files_are_replaced_only_when_asked(finished, photos):
    arguments = (finished.output, [photos / "a.png"], photos / "found")
    explain_run(*arguments)
    with pytest.raises(FileExistsError, match="exists already"):
        explain_run(*arguments)
    explain_run(*arguments, overwrite=True)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"threshold": 2}, ValueError, r"within \[0, 1\]. Received: threshold=2"),
        ({"paths": ["broken.png"]}, DataError, "None of the images can be read"),
    ],
)
def test_nothing_is_left_behind(finished, photos, given, error, message):
    given = {"paths": ["a.png"], **given}
    paths = [photos / name for name in given.pop("paths")]
    with pytest.raises(error, match=message):
        explain_run(finished.output, paths, photos / "found", **given)
    assert not (photos / "found").exists()


def test_no_image_is_replaced(finished, photos):
    (photos / "a.png").rename(photos / "a_detected.png")
    (photos / "a.png").symlink_to(photos / "a_detected.png")
    with pytest.raises(DataError, match="would replace one of the images"):
        explain_run(finished.output, [photos / "a.png"], photos, overwrite=True)
