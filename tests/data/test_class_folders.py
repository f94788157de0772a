import os
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from keras_cbam.data.image_files import NOT_AN_IMAGE
from keras_cbam.data.load import load_data
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import save_image

SIZE = 32
CLASSES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images each, of the red levels 0..9 and 100..109."""
    for name, base in zip(CLASSES, (0, 100)):
        for i in range(10):
            save_image(tmp_path / "data" / name / f"{i}.png", base + i, (9, 8))
    return tmp_path / "data"


def make(root, *names):
    """Makes folders, images (those called a or b) and files that cannot be read as such."""
    root.mkdir(exist_ok=True)
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        elif path.stem in ("a", "b"):
            save_image(path.with_suffix(".png"), 9, (9, 8))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"bad")
    return root


def make_parts(root, *parts, classes=CLASSES):
    for level, part in enumerate(parts):
        for label, name in enumerate(classes):
            for i in range(level + 1):
                save_image(
                    root / part / name / f"{i}.png", (100 * label + 10 * level) % 256, (9, 8)
                )
    return root


def levels(part):
    return part.images.read(np.arange(len(part)))[0][:, 0, 0, 0].tolist()


def skipped(data):
    return {line.split(": ")[0]: line.split(": ", 1)[1] for line in data.skipped}


def one_sentence(error):
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


# Classes


def test_folder(folder):
    data = load_data(folder, SIZE)
    assert (data.name, data.class_names, data.skipped) == ("data", ["cat", "dog"], [])
    assert data.train.images.shape == (16, SIZE, SIZE, 3)
    assert data.train.labels.dtype == data.test.labels.dtype == np.int32
    assert data.train.labels.tolist() == [0] * 8 + [1] * 8
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.validation is data.test
    found = levels(data.train) + levels(data.test)
    assert sorted(found) == [*range(10), *range(100, 110)]
    assert (np.array(found) // 100).tolist() == [0] * 8 + [1] * 8 + [0, 0, 1, 1]


def test_seed_draws_the_split(folder):
    first, again, other = (load_data(folder, SIZE, seed=seed) for seed in (1, 1, 2))
    assert first.train.images.paths == again.train.images.paths
    assert levels(first.test) != levels(other.test)
    # The split must stay what it was, on every machine.
    assert levels(first.test) == [4, 8, 100, 101]


def test_order_and_what_is_read(tmp_path):
    names = ["b.JPG", "a/z.jpeg", "a/b/c/d.Png", "C.bmp", "10.gif", "9.webp", "folder.png/x.tif"]
    for position, name in enumerate(sorted(names)):
        save_image(tmp_path / "train" / "ä" / name, 20 * position)
    for name in ("Z", "b", "B"):
        save_image(tmp_path / "train" / name / "1.png", 0)
    make_parts(tmp_path, "test", classes=("ä", "Z", "b", "B"))
    save_image(tmp_path / "train" / "ä" / "z.png", 150)
    (tmp_path / "train" / "ä" / "z.png").rename(tmp_path / "train" / "ä" / "z")
    ignored = (
        *("ä/notes.txt", "ä/.hidden.png", "ä/.hidden/1.png", ".hidden/1.png", "ä/jpg", ".DS_Store"),
        *("__MACOSX/ä/._1.png", "ä/__MACOSX/1.png", "ä/Thumbs.db", "labels.csv"),
    )
    for other in ignored:
        (tmp_path / "train" / other).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "train" / other).write_bytes(b"BM")
    data = load_data(tmp_path, SIZE, strict=True)
    assert data.class_names == ["B", "Z", "b", "ä"]
    assert data.train.labels.tolist() == [0, 1, 2] + [3] * 8
    found = data.train.images.read(np.arange(3, 11))[0][..., 0].mean(axis=(1, 2))
    np.testing.assert_allclose(found, [*(np.arange(7) * 20), 150], atol=5)
    assert data.skipped == []


def test_unreadable_images_are_skipped_and_named(folder):
    for name in ("dog/x.png", "cat/nested/x.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"bad")
    save_image(folder / "stray.jpg", 0)
    data = load_data(folder, SIZE)
    assert skipped(data) == {
        str(folder / "cat/nested/x.jpg"): NOT_AN_IMAGE,
        str(folder / "dog/x.png"): NOT_AN_IMAGE,
        str(folder / "stray.jpg"): "an image outside the class folders",
    }
    assert len(data.train) + len(data.test) == 20
    assert (np.array(levels(data.train)) // 100).tolist() == data.train.labels.tolist()
    with pytest.raises(
        DataError, match=r"^2 of 22 images cannot be read, the first is .*x.jpg: not"
    ):
        load_data(folder, SIZE, strict=True)
    (folder / "cat" / "y.png").write_bytes(b"bad")
    with pytest.raises(
        DataError, match=r"3 of 23 images cannot be read, the first is .*x.jpg: not"
    ):
        load_data(folder, SIZE)


def test_an_empty_class_is_left_out_and_named(folder):
    (folder / "bird").mkdir()
    (folder / "cow" / "nested").mkdir(parents=True)
    (folder / "cow" / "notes.txt").write_text("")
    data = load_data(folder, SIZE, strict=True)
    assert data.class_names == ["cat", "dog"]
    reason = "a folder without images"
    assert skipped(data) == {str(folder / name): reason for name in ("bird", "cow")}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "a subfolder of images for each of at least 2 classes, received none"),
        (["a.png"], "received none .1 skipped, .*a.png: an image outside the class folders"),
        ([".cat/a.png"], "received none"),
        (["cat/a.png", "cat/b.png"], "at least 2 classes, received 'cat'"),
        (["cat/a.png", "dog/"], "received 'cat' .1 skipped, .*dog: a folder without images"),
        (["cat/a.png", "dog/a.txt/"], "received 'cat' .1 skipped, .*dog: a folder without"),
        (["cat/a.png", "cat/b.png", "dog/bad.png"], "1 of 3 images .*bad.png: not a JPEG, PNG"),
        (["cat/a.png", "cat/b.png", "dog/a.png"], "class 'dog' .*at least 2 images.*received 1"),
        (["train/cat/a.png", "train/dog/", "val/cat/a.png"], "received 'cat' .1 skipped"),
        (["train/cat/a.png", "train/dog/a.png", "val/cat/"], "val' must have .*received none"),
        (
            ["train/a/a.png", "train/b/a.png", "val/a/a.png", "val/c/a.png"],
            "class 'c' of '.*val' is not one of the 2 classes of the training, 'a', 'b'",
        ),
        (
            ["train/a/a.png", "train/b/a.png", "train/c/", "val/a/a.png", "val/c/a.png"],
            "class 'c' of '.*val' is not one of the 2",
        ),
        (
            ["train/a/a.png", "train/b/a.png", "test/a.png"],
            "classes in two parts, received them in 'train' alone, not in 'test'",
        ),
        (["train/old/a", "train/b", "val/a", "val/b"], "in 'train' alone, not in 'val'"),
        (
            ["train/a/a.png", "train/b/a.png", "more/a.png", "images/a.png"],
            "classes in two parts, received them in 'train' alone, not in 'images', 'more'",
        ),
    ],
)
def test_folder_that_cannot_be_used(tmp_path, names, message):
    with pytest.raises(DataError, match=message) as error:
        load_data(make(tmp_path / "pets", *names), SIZE)
    assert "pets" in one_sentence(error)


def test_test_images_without_classes(tmp_path):
    # As competitions have them.
    names = [f"train/{name}/{image}" for name in CLASSES for image in "ab"]
    make(tmp_path / "pets", *names, "test/a.png", "test/b.png")
    way_out = f"pass the folder '{tmp_path / 'pets' / 'train'}' itself"
    with pytest.raises(DataError, match=f"alone, not in 'test': {way_out}") as error:
        load_data(tmp_path / "pets", SIZE)
    one_sentence(error)
    assert load_data(tmp_path / "pets" / "train", SIZE).test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("depth", ["", "cat"])
def test_folder_without_permission(folder, monkeypatch, depth):
    # The tests may run as root, who may read everything.
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(folder / depth):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="Permission denied") as error:
        load_data(folder, SIZE)
    assert str(folder) in one_sentence(error)


def test_many_classes(tmp_path):
    content = save_image(tmp_path / "image.bmp", 9, (2, 2)).read_bytes()
    for label in range(2000):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for name in ("a.bmp", "b.bmp"):
            (tmp_path / "data" / str(label) / name).write_bytes(content)
    data = load_data(tmp_path / "data", SIZE)
    assert data.train.labels.tolist() == data.test.labels.tolist() == list(range(2000))
    assert data.class_names[:3] == ["0", "1", "10"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are any bytes")
def test_odd_names(folder):
    odd = (
        *(b"-rf", b"--help", b"%s%n", b"{0}{x.__class__}", b"a b ", b"a..", b"~", b"$HOME"),
        *(b"line\nend\r", b"\xff\xfe", b"\x1b[2J", b"<script>", b"x" * 255, b"a\\b", b"*?["),
        *("日本'\"".encode(), "\u202egnp".encode(), b"$(x) %s {0}"),
    )
    for name in odd:
        path = pathlib.Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
        for i in range(6):
            save_image(path / f"{i}.png", 0, (2, 2))
        (path / "bad\x1b[31m\n.png").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"18 of 146 images .*bad\\x1b\[31m\\n.png: not a") as error:
        load_data(folder, SIZE)
    assert one_sentence(error).isprintable()
    for name in odd[2:]:
        os.unlink(os.path.join(os.fsencode(folder), name, b"bad\x1b[31m\n.png"))
    data = load_data(folder, SIZE)
    assert len(set(data.class_names)) == len(odd) + 2
    assert {r"line\nend\r", r"\udcff\udcfe", "日本'\"", r"\u202egnp"} <= set(data.class_names)
    assert len(data.skipped) == 2
    for text in (*data.skipped, *data.class_names):
        assert text.isprintable()
        text.encode("utf-8")


# Parts


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "valid"), "train valid valid"),
        (("train", "valid", "test"), "train valid test"),
        (("train", "validation"), "train validation validation"),
        (("Training", "Test"), "Training Test Test"),
        (("train", "dev"), "train dev dev"),
        (("seg_train", "seg_test"), "seg_train seg_test seg_test"),
        (("TRAIN", "Val", "Testing"), "TRAIN Val Testing"),
        (("my-train", "my-val"), "my-train my-val my-val"),
        (("training_set", "test_set"), "training_set test_set test_set"),
        (("seg_train/seg_train", "seg_test/seg_test"), "seg_train seg_test seg_test"),
        (("pets/train", "pets/val"), "train val val"),
        (("pets/pets/train/train", "pets/pets/test"), "train test test"),
    ],
)
def test_layouts(tmp_path, parts, expected):
    data = load_data(make_parts(tmp_path, *parts), SIZE)
    assert data.class_names == ["cat", "dog"]
    assert data.skipped == []
    found = [data.train, data.validation, data.test]
    for part, name in zip(found, expected.split(), strict=True):
        (given,) = [each for each in parts if each.endswith(name)]
        count = 1 + parts.index(given)
        assert part.labels.tolist() == [0] * count + [1] * count
        assert all(f"{tmp_path / given}{os.sep}" in path for path in part.images.paths)
        level = 10 * parts.index(given)
        assert levels(part) == [level] * count + [100 + level] * count
    assert (data.validation is data.test) == (len(parts) == 2)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (("a", "b"), "'a', 'b' of '.*' all hold the subfolders 'cat', 'dog'"),
        (("first", "second", "third"), "'first', 'second', 'third' of .* all hold"),
        (("train", "val", "valid"), "'train', 'val', 'valid' of .* all hold"),
        (("pets/a", "pets/b"), "'a', 'b' of '.*pets' all hold"),
    ],
)
def test_unknown_parts_are_refused(tmp_path, parts, shown):
    make_parts(tmp_path, *parts)
    (tmp_path / parts[0] / "labels.csv").write_text("")
    with pytest.raises(DataError, match=f"The subfolders {shown}.*: call them train and val") as e:
        load_data(tmp_path, SIZE)
    one_sentence(e)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["pets/pets/cat/a", "pets/pets/cat/b", "pets/pets/dog/a", "pets/pets/dog/b"], "cat dog"),
        # A habit of naming, as in Tiny ImageNet.
        (["x/images/a", "x/images/b", "y/images/a", "y/images/b"], "x y"),
        (["x/left/a", "x/right/b", "x/a", "y/left/a", "y/right/b"], "x y"),
        (["x/left/a", "x/right/b", "y/up/a", "y/down/b"], "x y"),
        # Trains among other things.
        (["train/a", "train/b", "test/a", "test/b"], "test train"),
        (["train/old/a", "train/new/b", "bus/x/a", "bus/y/b"], "bus train"),
    ],
)
def test_classes_that_are_none_of_parts(tmp_path, names, classes):
    data = load_data(make(tmp_path / "data", *names), SIZE)
    assert data.class_names == classes.split()
    assert data.skipped == []
    assert data.test.labels.tolist() == [0, 1]


def test_what_lies_beside_the_parts_is_left_out_and_named(tmp_path):
    make_parts(tmp_path, "seg_train", "seg_test")
    make(tmp_path, "seg_pred/a", "unlabelled/x/b", "__MACOSX/x.png", "seg_dev/a", "notes.txt", "a")
    (tmp_path / "pred").symlink_to(tmp_path.parent)
    with pytest.raises(DataError, match=r"^1 of 3 images .*pred: a symbolic link that leads out"):
        load_data(tmp_path, SIZE, strict=True)
    (tmp_path / "pred").unlink()
    data = load_data(tmp_path, SIZE, strict=True)
    assert (data.class_names, len(data.test)) == (["cat", "dog"], 4)
    assert skipped(data) == {
        str(tmp_path / "seg_pred"): "a folder beside the parts",
        # ImageNet's own test part has no labels either.
        str(tmp_path / "seg_dev"): "a folder beside the parts",
        str(tmp_path / "unlabelled"): "a folder beside the parts",
        str(tmp_path / "a.png"): "an image outside the class folders",
    }


def test_images_beside_the_classes_of_a_part(tmp_path):
    make(make_parts(tmp_path, "train", "val"), "train/a", "val/a")
    data = load_data(tmp_path, SIZE)
    assert data.class_names == ["cat", "dog"]
    reason = "an image outside the class folders"
    assert skipped(data) == {str(tmp_path / part / "a.png"): reason for part in ("train", "val")}


def test_labels_are_matched_by_name(tmp_path):
    make_parts(tmp_path, "train", classes=("a", "b", "c"))
    make_parts(tmp_path, "val", classes=("c",))
    (tmp_path / "val" / "a").mkdir()
    data = load_data(tmp_path, SIZE)
    assert data.class_names == ["a", "b", "c"]
    assert data.test.labels.tolist() == [2]
    assert skipped(data) == {str(tmp_path / "val" / "a"): "a folder without images"}


# Links


def test_links_that_lead_outside(folder, tmp_path):
    outside = tmp_path / "outside"
    save_image(outside / "secret.png", 9)
    (outside / "notes.txt").write_text("")
    # A name that starts as the data folder's does is still outside.
    save_image(tmp_path / "data2" / "1.png", 9)
    links = {
        "cat/a.png": outside / "secret.png",
        "cat/b.png": pathlib.Path("../../outside/secret.png"),
        "cat/broken.png": tmp_path / "nothing.png",
        "cat/nested": outside,
        "cat/notes.txt": outside / "notes.txt",
        "cat/up": tmp_path,
        "cow": outside,
        "data2": tmp_path / "data2",
    }
    for link, target in links.items():
        (folder / link).symlink_to(target)
    (folder / "cat" / ".hidden").symlink_to(outside)
    data = load_data(folder, SIZE)
    reason = "a symbolic link that leads outside the data folder"
    assert skipped(data) == {str(folder / link): reason for link in links}
    assert data.class_names == ["cat", "dog"]
    assert len(data.train) + len(data.test) == 20
    with pytest.raises(DataError, match=r"^8 of 28 images cannot be read, .* a symbolic link that"):
        load_data(folder, SIZE, strict=True)


def test_links_inside_are_followed(folder, tmp_path):
    (folder / "cat" / "more.png").symlink_to(folder / "dog" / "1.png")
    (folder / "dog" / "more").symlink_to("../cat")
    (folder / "pony").symlink_to(folder / "dog")
    (tmp_path / "link").symlink_to(folder)
    data = load_data(tmp_path / "link", SIZE)
    labels = np.concatenate([data.train.labels, data.test.labels])
    assert np.bincount(labels).tolist() == [11, 21, 21]
    assert data.class_names == ["cat", "dog", "pony"]
    assert data.skipped == []


def test_links_in_a_circle(folder):
    (folder / "cat" / "self").symlink_to(".")
    (folder / "cat" / "all").symlink_to("..")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    (folder / "cat" / "broken.png").symlink_to("nothing.png")
    # 2 ** 30 ways lead down these links.
    for level in range(30):
        (folder / "dog" / f"level{level}").mkdir()
        for link in "ab":
            (folder / "dog" / f"level{level}" / link).symlink_to(f"../level{level + 1}")
    reasons = skipped(load_data(folder, SIZE))
    for name in ("loop.png", "broken.png"):
        assert reasons[str(folder / "cat" / name)] == "not a regular file, or a broken link"
    assert reasons[str(folder / "cat" / "self")] == "a folder that was read before"
    assert len(reasons) < 200
    only = folder.parent / "only"
    only.mkdir()
    (only / "self").symlink_to(".")
    with pytest.raises(DataError, match="received none"):
        load_data(only, SIZE)


def test_deep_nesting(folder, monkeypatch):
    # Deeper than Python functions call each other, and then than a path may be long.
    names = ["d"] * 1100 + ["d" * 100] * 50
    monkeypatch.chdir(folder / "cat")
    try:
        for depth, name in enumerate(names):
            os.mkdir(name)
            os.chdir(name)
            if depth == 1050:
                Image.new("RGB", (9, 9)).save("deep.png")
        data = load_data(folder, SIZE, test_fraction=0.01)
    finally:
        # By hand, as what clears up after tests calls itself for each level.
        for name in reversed(names):
            if os.path.exists("deep.png"):
                os.remove("deep.png")
            os.chdir("..")
            os.rmdir(name)
    assert data.train.labels.tolist() == [0] * 10 + [1] * 9
    # Paths over the system's limit do not lead to a folder: they are ignored as other names are.
    assert len(data.skipped) <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs pipes")
def test_special_files(folder):
    for i in range(10, 100):
        os.link(folder / "cat" / "0.png", folder / "cat" / f"{i}.png")
    special = {"zero": "/dev/zero", "stdin": "/dev/stdin", "memory": "/proc/self/mem"}
    for suffix in (".png", ".txt"):
        os.mkfifo(folder / "cat" / f"pipe{suffix}")
        for name, target in special.items():
            (folder / "cat" / f"{name}{suffix}").symlink_to(target)
    (folder / "cat" / "folder.png").mkdir()
    reasons = skipped(load_data(folder, SIZE))
    assert reasons.pop(str(folder / "cat" / "pipe.png")) == "not a regular file, or a broken link"
    outside = [folder / "cat" / f"{name}{end}" for name in special for end in (".png", ".txt")]
    assert reasons.keys() == set(map(str, outside))
