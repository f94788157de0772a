import numpy as np
import pytest

from keras_cbam.data.image_sources import ArrayImages
from keras_cbam.data.labelled_images import LabelledImages, split_off
from keras_cbam.data.load import load_data
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import cut_short, make_imagenet, save_image

SIZE = 32


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ((10, 10), 0.2, [2, 2]),
        ((10, 30, 4), 0.25, [2, 8, 1]),
        ((2, 50), 0.01, [1, 1]),
        ((2, 50), 0.99, [1, 49]),
    ],
)
def test_split_is_stratified(counts, fraction, expected):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.arange(len(y), dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 3), "uint8")
    whole = LabelledImages(ArrayImages(x), y.astype("int32"))
    names = list("abc")[: len(counts)]
    train, test = split_off(whole, names, 0, fraction, "data")
    assert np.bincount(test.labels).tolist() == expected
    # Each image is in one part, in the order of the file, with its own label.
    parts = [part.images.array[:, 0, 0, 0].tolist() for part in (train, test)]
    assert [sorted(part) for part in parts] == parts
    assert sorted(parts[0] + parts[1]) == list(range(len(y)))
    assert y[parts[0]].tolist() == train.labels.tolist()
    assert y[parts[1]].tolist() == test.labels.tolist()
    again, _ = split_off(whole, names, 0, fraction, "data")
    np.testing.assert_array_equal(again.images.array, train.images.array)
    with pytest.raises(DataError, match="class 'a' of 'data' must have at least 2 images"):
        split_off(whole.select(np.flatnonzero(y > 0)), names, 0, fraction, "data")


def npz(path, **changes):
    arrays = {"x": np.zeros((300, 8, 8), "uint8"), "y": np.arange(300) % 2}
    arrays |= {"xt": arrays["x"][:4], "yt": arrays["y"][:4]}
    np.savez(path, **{**arrays, **changes})
    return load_data(path, SIZE).identity()


def test_identity_of_arrays(tmp_path):
    first = npz(tmp_path / "a.npz")
    assert first == npz(tmp_path / "b.npz")
    assert int(first, 16) > 0
    others = [
        npz(tmp_path / "c.npz", y=np.arange(300) % 2 ^ 1),
        npz(tmp_path / "c.npz", x=np.full((300, 8, 8), 1, "uint8")),
        npz(tmp_path / "c.npz", xt=np.full((4, 8, 8), 1, "uint8")),
        npz(tmp_path / "c.npz", yt=[1, 1, 0, 0]),
        npz(tmp_path / "c.npz", class_names=np.array(["a", "b"])),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_identity_of_files(tmp_path, monkeypatch):
    for name in ("first", "second"):
        make_imagenet(tmp_path / name, classes=2)
    first = load_data(tmp_path / "first", SIZE).identity()
    assert first == load_data(tmp_path / "second", SIZE).identity()
    assert first == load_data(tmp_path / "first", 64).identity()
    monkeypatch.chdir(tmp_path / "first")
    assert first == load_data(".", SIZE).identity()
    found = {first}
    image = tmp_path / "second" / "val" / "n00" / "0.png"
    for change in (
        lambda: save_image(image, 0, (50, 50)),
        lambda: image.rename(image.with_name("1.png")),
        lambda: save_image(tmp_path / "second" / "train" / "n01" / "9.png", 0),
        lambda: (tmp_path / "second" / "val").rename(tmp_path / "second" / "dev"),
    ):
        change()
        found.add(load_data(tmp_path / "second", SIZE).identity())
    assert len(found) == 5


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "val", "test")])
def test_all_skipped(tmp_path, parts):
    for part in parts:
        for name in "ab":
            for i in range(10):
                save_image(tmp_path / part / name / f"{i}.png", 0)
        cut_short(tmp_path / part / "b" / "3.png")
    (tmp_path / "more").mkdir()
    data = load_data(tmp_path, SIZE)
    beside = f"{tmp_path / 'more'}: a folder beside the parts"
    assert data.skipped == data.all_skipped() == [beside]
    assert len(data.sources()) == len(parts)
    for images in data.sources():
        images.read(np.arange(20))
    names = [str(tmp_path / part / "b" / "3.png") for part in parts]
    assert data.skipped == [beside]
    assert [line.split(": ")[0] for line in data.all_skipped()[1:]] == names
    assert all("truncated" in line for line in data.all_skipped()[1:])
