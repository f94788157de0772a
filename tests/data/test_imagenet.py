import shutil

import pytest

from keras_cbam.data.imagenet import find_test_files, find_training_files
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import make_imagenet, save_picture


@pytest.fixture
def folder(tmp_path):
    return make_imagenet(tmp_path / "data", classes=2)


def test_training_files(folder):
    (folder / "train" / "n00" / "notes.txt").touch()
    train, test, skipped = find_training_files(str(folder))
    names = [f"{folder}/train/n0{label}/{index}.png" for label in (0, 1) for index in (0, 1)]
    assert train.paths == names
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.class_names == test.class_names == ["n00", "n01"]
    assert test.paths == [f"{folder}/val/n00/0.png", f"{folder}/val/n01/0.png"]
    assert [line.split(": ")[0] for line in skipped] == [f"{folder}/train/n00/notes.txt"]
    with pytest.raises(DataError, match=r"an error if strict .1 skipped, .*notes.txt"):
        find_training_files(str(folder), strict=True)


def test_val_goes_before_test(folder):
    # ImageNet's own test part has no labels.
    save_picture(folder / "test" / "0.png", 0)
    expected = [f"{folder}/val/n00/0.png", f"{folder}/val/n01/0.png"]
    assert find_training_files(folder)[1].paths == expected
    assert find_test_files(folder)[0].paths == expected
    shutil.rmtree(folder / "test")
    (folder / "val").rename(folder / "test")
    expected = [path.replace("/val/", "/test/") for path in expected]
    assert find_training_files(folder)[1].paths == find_test_files(folder)[0].paths == expected


def test_test_files_of_one_folder_a_class(folder):
    files, skipped = find_test_files(folder / "train")
    assert files.labels.tolist() == [0, 0, 1, 1]
    assert skipped == []


@pytest.mark.parametrize("part", ["train", "val"])
def test_what_is_no_picture_is_found_at_the_start(folder, part):
    (folder / part / "n01" / "0.png").write_bytes(b"hello")
    message = (
        rf"1 of {4 if part == 'train' else 2} pictures in .*{part}' cannot be read, the first "
    )
    with pytest.raises(DataError, match=message + r"is .*n01/0.png: not a JPEG, PNG, BMP or GIF"):
        find_training_files(folder)
    with pytest.raises(DataError, match=message):
        find_test_files(folder / part)


def test_folders_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(DataError, match="must have two parts, train and one of val and test"):
        find_training_files(folder / "train")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        find_training_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        find_test_files(tmp_path / "nowhere")
    save_picture(folder / "val" / "n02" / "0.png", 0)
    with pytest.raises(DataError, match="the same classes, received the class 'n02' in one only"):
        find_training_files(folder)
    shutil.rmtree(folder / "val" / "n02")
    shutil.rmtree(folder / "val" / "n01")
    with pytest.raises(DataError, match=r"val' must have .* at least 2 classes, received 1 subf"):
        find_test_files(folder)
