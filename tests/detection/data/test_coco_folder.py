import json
import os

import numpy as np
import pytest

from keras_cbam.detection import coco_folder, load_detection_data
from keras_cbam.detection.data import coco_folder as module
from keras_cbam.errors import DataError
from tests.detection.folders import coco_box, coco_json, write_coco, write_image


@pytest.fixture
def folder(tmp_path):
    return write_coco(tmp_path / "data")


def train_json(folder, images=None, annotations=(), **options):
    path = folder / "annotations" / "instances_train2017.json"
    return coco_json(path, images or {3: "a.png", 4: "b.png"}, annotations, **options)


def test_reads_both_parts(folder, capsys):
    data = load_detection_data(str(folder))
    assert capsys.readouterr().out == ""
    assert (data.name, data.class_names) == ("data", ["cat", "dog"])
    train, test = data.train, data.test
    assert train.image_ids == [3, 4]
    np.testing.assert_array_equal(train.boxes[0], [[1, 2, 11, 22], [0, 0, 4, 4]])
    np.testing.assert_array_equal(train.classes[0], [1, 0])
    np.testing.assert_array_equal(train.ignored[0], [False, True])
    np.testing.assert_array_equal(train.areas[0], [123, 16])
    assert train.boxes[1].shape == (0, 4)
    assert train.sizes.tolist() == [[30, 40]] * 2
    assert train.images[0].shape == (30, 40, 3)
    assert train.images[0].dtype == np.uint8
    np.testing.assert_array_equal(test.boxes[0], [[5, 5, 10, 10]])
    assert train.skipped == test.skipped == {}


def test_splits_a_folder_without_parts(tmp_path):
    names = {i: f"{i}.png" for i in range(10)}
    for i, name in names.items():
        write_image(tmp_path / "images" / name, colour=i)
    boxes = [coco_box(i, [i, 0, 5, 5]) for i in range(10)]
    coco_json(tmp_path / "annotations.json", names, boxes)
    data = load_detection_data(tmp_path, seed=1)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert sorted(data.train.image_ids + data.test.image_ids) == list(range(10))
    for part in (data.train, data.test):
        for i, image_id in enumerate(part.image_ids):
            assert part.boxes[i][0, 0] == image_id
            assert part.images[i][0, 0, 0] == image_id
    assert data.validation is data.test
    whole = coco_folder(tmp_path, test_fraction=None)
    assert len(whole.train) == len(whole.test) == 10
    assert coco_folder(tmp_path, seed=1).test.image_ids == data.test.image_ids
    assert coco_folder(tmp_path, seed=2).test.image_ids != data.test.image_ids


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        (coco_box(3, [1, 1, 0, 5]), "zero-area boxes"),
        (coco_box(3, [9, 9, -3, 5]), "zero-area boxes"),
        (coco_box(3, [40, 0, 5, 5]), "boxes outside the image"),
        (coco_box(3, [-9, -9, 5, 5]), "boxes outside the image"),
        (coco_box(3, [1, 1, 5, 5], 2), "boxes of unknown classes"),
        (coco_box(8, [1, 1, 5, 5]), "boxes of unknown images"),
        (coco_box(3, [1, 1, 5]), "malformed boxes"),
        (coco_box(3, None), "malformed boxes"),
        (coco_box(3, [1, 1, 5, float("nan")]), "malformed boxes"),
        (coco_box(3, [1, 1, 1e400, 5]), "malformed boxes"),
        (coco_box(3, [1, 1, "5", 5]), "malformed boxes"),
        (coco_box(3, [1, 1, 5, 5], True), "malformed boxes"),
        (coco_box(3, [1, 1, 5, 5], iscrowd="0"), "malformed boxes"),
    ],
)
def test_bad_boxes_are_counted(folder, box, reason):
    train_json(folder, annotations=[box, coco_box(3, [1, 1, 5, 5])])
    train = coco_folder(folder).train
    assert train.skipped == {reason: 1}
    np.testing.assert_array_equal(train.boxes[0], [[1, 1, 6, 6]])
    assert len(train.classes[0]) == len(train.ignored[0]) == len(train.areas[0]) == 1


@pytest.mark.parametrize("area", [-5, 0, "12", None, float("nan")])
def test_areas_that_are_none_are_counted(folder, area):
    train_json(folder, annotations=[coco_box(3, [1, 1, 5, 4], area=area)])
    train = coco_folder(folder).train
    assert train.areas[0].tolist() == [20]
    assert train.skipped == {"areas that are not positive numbers": 1}


def test_images_are_taken_once(folder):
    train_json(folder, {3: "a.png", 4: "a.png"}, [coco_box(3, [1, 1, 5, 5])])
    train = coco_folder(folder).train
    assert (len(train), train.skipped) == (1, {"images listed before": 1})


def test_training_without_boxes_is_an_error(folder):
    for boxes, why in (
        ([], r"received none\.$"),
        ([coco_box(3, [1, 1, 5, 5], "1")], r"received none \(1 boxes of unknown classes\)"),
    ):
        train_json(folder, annotations=boxes)
        with pytest.raises(DataError, match=rf"training part .* must have boxes, {why}"):
            coco_folder(folder)


def test_a_missing_key_is_named(folder):
    train_json(folder, annotations=[{"image_id": 3, "bbox": [1, 1, 5, 5], "category_id": 1}])
    path = folder / "annotations" / "instances_train2017.json"
    whole = json.loads(path.read_text())
    for part, key in (
        ("annotations", "image_id"),
        ("images", "id"),
        ("annotations", "category_id"),
    ):
        broken = json.loads(json.dumps(whole))
        del broken[part][0][key]
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=f"there is an entry without '{key}'"):
            coco_folder(folder)


def test_clips_boxes(folder):
    train_json(folder, annotations=[coco_box(3, [-5, 20, 10, 50])])
    train = coco_folder(folder).train
    np.testing.assert_array_equal(train.boxes[0], [[0, 20, 5, 30]])
    assert train.skipped == {"boxes clipped to the image": 1}


def test_sides_may_be_written_with_a_point(folder):
    whole = train_json(folder, annotations=[coco_box(3, [1, 1, 5, 5])])
    whole["images"][0] |= {"width": 40.0, "height": 30.0}
    whole["images"][1] |= {"width": 40.5}
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(whole))
    train = coco_folder(folder).train
    assert (train.sizes.tolist(), train.skipped) == ([[30, 40]], {"malformed images": 1})


@pytest.mark.parametrize("test_fraction", [0, 1, 7, "half"])
def test_a_part_that_is_none(folder, test_fraction):
    with pytest.raises(ValueError, match=f"Received: test_fraction={test_fraction!r}"):
        coco_folder(folder, test_fraction=test_fraction)


def test_images_that_cannot_be_used_are_counted(folder):
    (folder / "train2017" / "broken.png").write_text("no image")
    write_image(folder.parent / "outside.png")
    os.symlink(folder.parent / "outside.png", folder / "train2017" / "link.png")
    names = ("a.png", "gone.png", "broken.png", "link.png", "../../outside.png", "../val2017/c.png")
    names = (*names, str(folder.parent / "outside.png"), "a\0.png")
    # One in ten images may be unreadable.
    plain = [f"plain{i}.png" for i in range(8)]
    for name in plain:
        write_image(folder / "train2017" / name)
    whole = train_json(folder, dict(enumerate((*names, *plain))), [coco_box(5, [1, 1, 5, 5])])
    whole["images"] += [{"id": 50, "file_name": "a.png"}, {**whole["images"][0], "width": -1}]
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(whole))
    train = coco_folder(folder).train
    # The last one took the id of the first.
    assert [os.path.basename(path) for path in train.images.paths] == ["c.png", *plain]
    assert train.skipped == {
        "images with the id of another": 1,
        "malformed images": 2,
        "missing images": 2,
        "paths that lead outside the folder": 3,
    }
    (line,) = train.unreadable
    assert line.startswith(f"{folder / 'train2017' / 'broken.png'}: not a JPEG")
    with pytest.raises(DataError, match=r"1 of 10 images cannot be read, .*broken\.png"):
        coco_folder(folder, strict=True)


def test_three_parts(folder):
    write_image(folder / "test2017" / "d.png")
    path = folder / "annotations" / "instances_test2017.json"
    coco_json(path, {2: "d.png"}, [coco_box(2, [5, 5, 5, 5])])
    data = coco_folder(folder)
    assert [part.image_ids for part in (data.train, data.validation, data.test)] == [
        [3, 4],
        [9],
        [2],
    ]
    path.unlink()
    data = coco_folder(folder)
    assert data.test is data.validation
    assert data.test.image_ids == [9]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON in COCO's format: Expecting value"),
        ("{", "is not JSON in COCO's format"),
        ("\ud800", "cannot be read|is not JSON"),
        ("[]", "is not JSON in COCO's format: list indices must be"),
        ("{}", "is not JSON in COCO's format"),
        ('{"images": 3, "annotations": [], "categories": []}', "is not JSON in COCO's format"),
        ('{"images": [], "annotations": [[]], "categories": []}', "is not JSON in COCO's format"),
        ('{"images": [[]], "annotations": [], "categories": []}', "is not JSON in COCO's format"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "is not JSON in COCO's"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"},'
            ' {"id": "2", "name": "dog"}]}',
            "is not JSON in COCO's format: '<' not supported between",
        ),
        ('{"images": [], "annotations": [], "categories": []}', "must have names"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": 2}]}',
            "must have names",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"},'
            ' {"id": 2, "name": "cat"}]}',
            "must have ids and names of their own",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}',
            "must have readable images, received none",
        ),
        (
            '{"images": [7], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}',
            "is not JSON in COCO's format",
        ),
        (
            '{"images": [], "annotations": [{"image_id": 1, "category_id": [1]}],'
            ' "categories": [{"id": 1, "name": "cat"}]}',
            "is not JSON in COCO's format",
        ),
        ("[" * 100_000, "cannot be read: maximum recursion depth|is not JSON"),
        ('{"images": ' + "9" * 5000 + "}", "is not JSON in COCO's format"),
    ],
)
def test_bad_json_is_one_sentence(folder, text, message):
    path = folder / "annotations" / "instances_train2017.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=message) as caught:
        coco_folder(folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_parts_of_other_categories(folder):
    train_json(folder, categories=[(1, "cat")])
    with pytest.raises(DataError, match="received 'dog' not in all"):
        coco_folder(folder)
    train_json(folder, categories=[(5, "cat"), (1, "dog")])
    with pytest.raises(DataError, match="another order"):
        coco_folder(folder)


def test_folders_that_are_none(tmp_path, folder):
    with pytest.raises(DataError, match="no such folder"):
        load_detection_data(tmp_path / "none")
    with pytest.raises(DataError, match="must have 'ImageSets'"):
        load_detection_data(tmp_path)
    (folder / "annotations" / "instances_train2018.json").write_text("{}")
    with pytest.raises(DataError, match=r"must have one file .*received 2"):
        load_detection_data(folder)


def test_a_validation_file_alone_can_be_measured_on(folder):
    (folder / "annotations" / "instances_train2017.json").unlink()
    data = load_detection_data(folder)
    assert (len(data.train), data.validation.image_ids, data.test.image_ids) == (0, [9], [9])
    (folder / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(DataError, match=r"instances_val\*.json' or .*received none"):
        load_detection_data(folder)


def test_annotations_are_parsed_once_until_they_change(folder, monkeypatch):
    parsed = []
    load = json.load
    monkeypatch.setattr(module.json, "load", lambda file: parsed.append(file.name) or load(file))
    first, second = coco_folder(folder), coco_folder(folder)
    assert len(parsed) == 2
    np.testing.assert_array_equal(first.train.boxes[0], second.train.boxes[0])
    train_json(folder, annotations=[coco_box(3, [1, 1, 5, 5])])
    assert len(coco_folder(folder).train.boxes[0]) == 1
    assert len(parsed) == 3


def test_any_file_and_image_folder(folder, tmp_path):
    """A union of two files to train on; one is without the prefix."""
    write_image(folder / "photos" / "d.png")
    coco_json(folder / "more.json", {7: "d.png"}, [coco_box(7, [1, 1, 5, 5], 5)])
    train = "annotations/instances_train2017.json + more.json:photos"
    absolute = str(folder / "annotations" / "instances_val2017.json")
    data = load_detection_data(folder, splits=(train, None, absolute))
    assert data.train.image_ids == [3, 4, 7]
    assert data.train.images.paths[2] == str(folder / "photos" / "d.png")
    assert data.train.classes[2].tolist() == [1]
    assert data.test.image_ids == [9]
    (folder / "photos").rename(folder / "images")
    splits = ("more.json", "annotations/instances_val2017.json", "more.json")
    data = load_detection_data(folder, splits=splits)
    parts = (data.train, data.validation, data.test)
    assert [part.image_ids for part in parts] == [[7], [9], [7]]
    with pytest.raises(DataError, match=r"gone\.json' cannot be read"):
        load_detection_data(folder, splits=("gone.json", None, "more.json"))
    with pytest.raises(DataError, match="must have a part to test on"):
        load_detection_data(folder, splits=("more.json", None, None))


def test_files_of_a_union_have_the_same_categories(folder):
    coco_json(folder / "more.json", {7: "d.png"}, [], categories=((1, "cat"), (6, "dog")))
    train = "annotations/instances_train2017.json:train2017+more.json:photos"
    with pytest.raises(DataError, match="must have the same categories"):
        load_detection_data(folder, splits=(train, None, "more.json:photos"))
