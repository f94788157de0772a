import os

import numpy as np
import pytest

from keras_cbam.detection import load_detection_data, voc_folder
from keras_cbam.errors import DataError
from tests.detection.folders import voc_object, voc_xml, write_image, write_voc

BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


def test_reads_both_parts(tmp_path):
    data = load_detection_data(write_voc(tmp_path / "VOC2007"))
    assert (data.name, data.class_names) == ("VOC2007", ["cat", "dog"])
    train, test = data.train, data.test
    assert train.image_ids == ["000001", "000002"]
    # The first pixel is 1, and the last is included.
    np.testing.assert_array_equal(train.boxes[0], [[0, 0, 40, 30], [1, 2, 5, 7]])
    np.testing.assert_array_equal(train.classes[0], [1, 0])
    np.testing.assert_array_equal(train.ignored[0], [False, True])
    np.testing.assert_array_equal(train.areas[0], [1200, 20])
    assert train.boxes[1].shape == (0, 4)
    assert train.images[1].shape == (30, 40, 3)
    np.testing.assert_array_equal(test.boxes[0], [[0, 0, 1, 1]])
    assert train.skipped == test.skipped == {}


def test_train_and_val_where_there_is_no_public_test_part(tmp_path):
    data = voc_folder(write_voc(tmp_path, names=("train", "val")))
    assert data.test.image_ids == ["000003"]
    assert data.validation is data.test


def test_three_parts_where_there_is_no_trainval(tmp_path):
    folder = write_voc(tmp_path)
    lists = folder / "ImageSets" / "Main"
    (lists / "trainval.txt").unlink()
    (lists / "train.txt").write_text("000001\n")
    (lists / "val.txt").write_text("000002\n")
    data = voc_folder(folder)
    parts = (data.train, data.validation, data.test)
    assert [part.image_ids for part in parts] == [["000001"], ["000002"], ["000003"]]


def test_names_with_spaces_and_the_lists_of_a_class(tmp_path):
    box = voc_object("cat", (1, 1, 9, 9))
    folder = write_voc(tmp_path, {name: voc_xml(box) for name in ("img 1", "img 2", "b", "c")})
    path = folder / "ImageSets" / "Main" / "trainval.txt"
    path.write_bytes(b"\xef\xbb\xbfimg 1\r\nimg 2 \n\nb  1\nc -1\n")
    train = voc_folder(folder).train
    assert (train.image_ids, train.skipped) == (["img 1", "img 2", "b", "c"], {})


def test_a_size_that_is_not_written_is_that_of_the_image(tmp_path):
    box = voc_object("cat", (1, 1, 60, 5))
    train = {"a": f"<annotation>{box}</annotation>", "b": voc_xml(box, width=0, height=0)}
    data = voc_folder(write_voc(tmp_path, train))
    assert data.train.sizes.tolist() == [[30, 40]] * 2
    assert data.train.skipped == {"boxes clipped to the image": 2}


def test_an_unreadable_image_without_a_written_size(tmp_path):
    plain = {f"plain{i}": voc_xml(voc_object("cat", (1, 1, 9, 9))) for i in range(10)}
    folder = write_voc(tmp_path, {**plain, "broken": voc_xml(width=0)})
    (folder / "JPEGImages" / "broken.jpg").write_text("no image")
    train = voc_folder(folder).train
    assert (len(train), len(train.unreadable)) == (10, 1)
    with pytest.raises(DataError, match=r"1 of 11 images cannot be read, .*broken\.jpg"):
        voc_folder(folder, strict=True)


def test_what_cannot_be_used_is_counted(tmp_path):
    good = voc_object("cat", (1, 1, 9, 9))
    bad = [
        voc_object("cat", (9, 9, 3, 12)),
        voc_object("cat", (50, 1, 60, 9)),
        voc_object("cat", (1, 1, "nan", 9)),
        voc_object("cat", (1, 1, "", 9)),
        voc_object("", (1, 1, 9, 9)),
        "<object><name>cat</name></object>",
    ]
    train = {"a": voc_xml(good, *bad), "gone": voc_xml(), "broken": voc_xml()}
    # One in ten images may be unreadable.
    train |= {f"plain{i}": voc_xml() for i in range(8)}
    test = {"c": voc_xml(good, voc_object("cow", (1, 1, 9, 9)))}
    folder = write_voc(tmp_path / "data", train, test)
    (folder / "JPEGImages" / "gone.jpg").unlink()
    (folder / "JPEGImages" / "broken.jpg").write_text("no image")
    (folder / "JPEGImages" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "Annotations" / "link.xml").write_text(voc_xml())
    write_image(tmp_path / "outside.jpg")
    (tmp_path / "outside.xml").write_text(voc_xml())
    with open(folder / "ImageSets" / "Main" / "trainval.txt", "a") as file:
        file.write("link 1\n../../outside -1\nno_annotation\n")
    data = voc_folder(folder)
    np.testing.assert_array_equal(data.train.boxes[0], [[0, 0, 9, 9]])
    assert data.train.image_ids == ["a", *(f"plain{i}" for i in range(8))]
    (line,) = data.train.unreadable
    assert line.startswith(f"{folder / 'JPEGImages' / 'broken.jpg'}: not a JPEG")
    assert line in data.train.all_skipped()
    assert data.train.skipped == {
        "zero-area boxes": 1,
        "boxes outside the image": 1,
        "malformed boxes": 4,
        "missing images": 1,
        "missing annotation files": 1,
        "paths that lead outside the folder": 2,
    }
    assert len(data.test.boxes[0]) == 1
    assert data.test.skipped == {"boxes of unknown classes": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares a document type or entities, which are not read"),
        (EXTERNAL, "declares a document type or entities, which are not read"),
        ("", "is not well-formed XML"),
        ("<annotation>", "is not well-formed XML"),
        ("<a></b>", "is not well-formed XML"),
        ('<?xml version="1.0" encoding="none"?><a/>', "is not well-formed XML"),
        ("\0\xff", "is not well-formed XML"),
    ],
)
def test_bad_xml_is_one_sentence(tmp_path, text, message):
    folder = write_voc(tmp_path, {"a": text})
    with pytest.raises(DataError, match=message) as caught:
        voc_folder(folder)
    assert "\n" not in str(caught.value)
    assert "'" + os.path.join(folder, "Annotations", "a.xml") + "'" in str(caught.value)


def test_no_boxes_or_no_lists(tmp_path):
    with pytest.raises(DataError, match="must have boxes, received none"):
        voc_folder(write_voc(tmp_path, {"a": voc_xml()}))
    (tmp_path / "ImageSets" / "Main" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"must have the lists trainval.txt and test.txt"):
        voc_folder(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        voc_folder(tmp_path)


def write_devkit(folder):
    """Two years, which both have an image 000001; the first has a test part."""
    write_voc(folder / "VOC2007")
    train = {"000001": voc_xml(voc_object("cow", (1, 1, 9, 9)))}
    write_voc(folder / "VOC2012", train, {"000001": train["000001"]}, ("trainval", "val"))
    return folder


def test_a_folder_of_years_is_their_union(tmp_path):
    data = load_detection_data(write_devkit(tmp_path / "VOCdevkit"))
    train = data.train
    assert (data.name, data.class_names) == ("VOCdevkit", ["cat", "cow", "dog"])
    assert train.image_ids == ["VOC2007/000001", "VOC2007/000002", "VOC2012/000001"]
    assert [boxes.shape[0] for boxes in train.boxes] == [2, 0, 1]
    assert train.images.paths[0] != train.images.paths[2]
    assert data.test.image_ids == ["VOC2007/000003"]
    assert data.validation is data.test
    assert train.skipped == {}


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("VOC2012/trainval", None, "VOC2007/test"), (["cow"], 1, 1, 1)),
        (("VOC2007/trainval+VOC2012/val", "VOC2012/val", "VOC2007/test"), (["cat"], 3, 1, 1)),
        # The same image twice.
        (("VOC2012/trainval + VOC2012/val", None, "VOC2007/test"), (["cow"], 1, 1, 1)),
        ((None, None, "VOC2007/test+VOC2012/val"), (["cat"], 0, 2, 2)),
    ],
)
def test_splits_that_are_asked_for(tmp_path, splits, expected):
    data = load_detection_data(write_devkit(tmp_path), splits=splits)
    parts = (data.train, data.validation, data.test)
    assert (data.class_names[:1], *map(len, parts)) == expected
    assert (data.validation is data.test) == (splits[1] is None)


def test_a_split_of_one_year(tmp_path):
    data = load_detection_data(write_voc(tmp_path), splits=("test", None, "trainval"))
    assert (data.train.image_ids, len(data.test)) == (["000003"], 2)


def test_splits_that_are_not_there(tmp_path):
    folder = write_devkit(tmp_path)
    with pytest.raises(DataError, match=r"VOC2012/ImageSets/Main/test\.txt' cannot be read"):
        voc_folder(folder, splits=("VOC2007/trainval", None, "VOC2012/test"))
    with pytest.raises(DataError, match="must have a part to test on"):
        voc_folder(folder, splits=("VOC2007/trainval", None, None))
