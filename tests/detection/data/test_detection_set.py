import shutil

import numpy as np
import pytest

from keras_cbam.detection import DetectionData, coco_folder, load_detection_data
from keras_cbam.errors import DataError
from tests.detection.folders import coco_box, coco_json, cut_short, write_image, write_many
from tests.detection.sets import make_set

CAT, DOG = [10, 20, 50, 60], [40, 0, 100, 30]


@pytest.mark.parametrize("kind", [np.array, list])
def test_select(kind):
    images = kind([np.full((100, 100, 3), i, "uint8") for i in range(3)])
    some = make_set([[CAT], [], [DOG]], [[0], [], [1]], images=images).select([2, 1])
    assert (len(some), some.image_ids) == (2, [2, 1])
    assert [image[0, 0, 0] for image in some.images] == [2, 1]
    np.testing.assert_array_equal(some.boxes[0], [DOG])
    assert type(some.images) is type(images)
    assert some.readable() is some
    assert some.all_skipped() == []


def test_classes_are_found_by_name():
    data = make_set([[CAT, DOG], []], [[0, 1], []], class_names=("cat", "dog"))
    found = data.with_classes(["dog", "cow", "cat"])
    assert found.class_names == ["dog", "cow", "cat"]
    assert [own.tolist() for own in found.classes] == [[2, 0], []]
    with pytest.raises(DataError, match="The class 'dog' of 'set' is not one of the 2 classes"):
        data.with_classes(["cat", "cow"])
    # A class that no box is of need not be known.
    assert data.select([1]).with_classes(["cow"]).class_names == ["cow"]


@pytest.fixture
def folder(tmp_path):
    return write_many(tmp_path / "data", 20)


def test_images_that_cannot_be_used_are_left_out(folder):
    train = coco_folder(folder).train
    cut_short(train.images.paths[3])
    train.images.read_each([3, 4], lambda image, _: image)
    readable = train.readable()
    assert readable.image_ids == [i for i in range(20) if i != 3]
    assert len(readable.images) == 19
    assert readable.source.failures == {}


def test_description(folder):
    write_image(folder / "test2017" / "d.png")
    path = folder / "annotations" / "instances_test2017.json"
    coco_json(path, {2: "d.png", 3: "gone.png"}, [coco_box(2, [5, 5, 5, 5])])
    data = coco_folder(folder)
    cut_short(data.train.images.paths[3])
    data.train.images.read_each([3], lambda image, _: image)
    told = data.describe()
    assert told.pop("skipped") == [
        "train: " + data.train.all_skipped()[0],
        "test: 1 missing images",
    ]
    assert told.pop("digest") == data.identity()
    assert told == {
        "name": "data",
        "training_images": 20,
        "validation_images": 1,
        "test_images": 1,
        "validation_part": "validation",
        "class_names": ["cat", "dog"],
    }
    assert len(data.sources()) == 3
    path.unlink()
    two_parts = coco_folder(folder)
    assert two_parts.describe()["validation_part"] == "test"
    assert len(two_parts.sources()) == 2


def test_identity_is_that_of_the_data_wherever_they_lie(folder, tmp_path):
    before = load_detection_data(folder).identity()
    shutil.copytree(folder, tmp_path / "copy")
    assert load_detection_data(tmp_path / "copy").identity() == before
    boxes = [coco_box(i, [0, 0, i + 2, 9]) for i in range(20)]
    names = {i: f"{i:02}.png" for i in range(20)}
    coco_json(folder / "annotations" / "instances_train2017.json", names, boxes)
    assert load_detection_data(folder).identity() != before


def test_identity_of_scenes():
    def identity(**given):
        data = load_detection_data(image_size=32, train_scenes=3, test_scenes=2, **given)
        return data.identity()

    assert identity() == identity()
    assert identity() != identity(seed=1)


def test_identity_is_of_all_parts():
    one, other = make_set([[CAT]], [[0]]), make_set([[DOG]], [[1]])
    parts = [(one, one, one), (other, one, one), (one, other, one), (one, one, other)]
    assert len({DetectionData(*each).identity() for each in parts}) == 4
