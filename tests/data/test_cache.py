import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_cbam.data import cache
from keras_cbam.data.batches import batches
from keras_cbam.data.cache import cached_pictures
from keras_cbam.data.image_files import read_pictures
from keras_cbam.data.labelled_images import Rows
from keras_cbam.data.load import load_data
from keras_cbam.errors import DataError


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(5):
            pixels = generator.integers(0, 256, (40, 50, 3), dtype="uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{index}.png")
    return tmp_path / "data"


def test_same_data_set_as_in_memory(folder, tmp_path):
    (folder / "a" / "0.png").write_bytes(b"damaged")
    new = tmp_path / "new" / "cache"
    ours, theirs = (load_data(folder, 32, cache=place) for place in (new, None))
    for images in (ours.train_images, ours.test_images):
        assert isinstance(images, Rows)
        assert isinstance(images.array, np.memmap)
    for part in ("train", "test"):
        our, their = (getattr(data_set, f"{part}_images") for data_set in (ours, theirs))
        assert our.shape == their.shape
        assert len(our) == len(their)
        np.testing.assert_array_equal(our[np.arange(len(our))], their)
        for labels in (getattr(data_set, f"{part}_labels") for data_set in (ours, theirs)):
            np.testing.assert_array_equal(labels, getattr(theirs, f"{part}_labels"))
    assert ours.skipped == theirs.skipped
    assert len(ours.skipped) == 1
    pixels, labels = next(iter(batches(ours.train_images, ours.train_labels, 3)))
    np.testing.assert_array_equal(pixels, theirs.train_images[:3])
    np.testing.assert_array_equal(labels, theirs.train_labels[:3])


def test_pictures_are_decoded_once(folder, tmp_path, monkeypatch):
    paths = sorted(map(str, folder.rglob("*.png")))
    expected, _ = read_pictures(paths, 16)
    cached_pictures(paths, 16, tmp_path / "cache")
    monkeypatch.setattr(cache, "read_pictures", lambda paths, size: (None, [None][: len(paths)]))
    images, reasons = cached_pictures(paths, 16, tmp_path / "cache")
    np.testing.assert_array_equal(images[np.arange(10)], expected)
    assert reasons == [None] * 10
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".npy", ".json"}


def test_changed_pictures_are_decoded_again(folder, tmp_path):
    paths = sorted(map(str, folder.rglob("*.png")))
    before, _ = cached_pictures(paths, 16, tmp_path / "cache")
    Image.new("RGB", (20, 20), "red").save(paths[3])
    after, _ = cached_pictures(paths, 16, tmp_path / "cache")
    index = np.arange(10)
    changed = (after[index] != before[index]).any(axis=(1, 2, 3))
    assert changed.tolist() == [position == 3 for position in range(10)]
    assert cached_pictures(paths, 8, tmp_path / "cache")[0].shape == (10, 8, 8, 3)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", ["empty", "cut", "missing"])
def test_damaged_cache_is_written_anew(folder, tmp_path, suffix, damage):
    paths = sorted(map(str, folder.rglob("*.png")))
    expected = cached_pictures(paths, 16, tmp_path / "cache")[0][np.arange(10)]
    (path,) = (tmp_path / "cache").glob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    images, reasons = cached_pictures(paths, 16, tmp_path / "cache")
    np.testing.assert_array_equal(images[np.arange(10)], expected)
    assert reasons == [None] * 10


def test_pictures_that_can_be_read_again(folder, tmp_path):
    paths = sorted(map(str, folder.rglob("*.png")))
    path = pathlib.Path(paths[4])
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(b"x" * len(content))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cached_pictures(paths, 16, tmp_path / "cache")[1][4] is not None
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    images, reasons = cached_pictures(paths, 16, tmp_path / "cache")
    assert reasons == [None] * 10
    np.testing.assert_array_equal(images[np.arange(10)], read_pictures(paths, 16)[0])


def test_a_cache_must_be_a_folder(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="The cache must be a folder, received"):
        load_data(folder, 32, cache=tmp_path / "file")


def test_a_stopped_decoding_leaves_nothing_that_is_used(folder, tmp_path, monkeypatch):
    paths = sorted(map(str, folder.rglob("*.png")))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_cbam.data.cache.read_pictures", fail)
    with pytest.raises(KeyboardInterrupt):
        cached_pictures(paths, 16, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_only_folders_have_a_cache(tmp_path):
    for data in (None, "mnist"):
        with pytest.raises(DataError, match="Only a folder of pictures has a cache, received"):
            load_data(data, 32, cache=tmp_path / "cache")
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 8, 8), "uint8"), y=[0, 1, 0, 1])
    with pytest.raises(DataError, match="Only a folder of pictures has a cache, received"):
        load_data(tmp_path / "x.npz", 32, cache=tmp_path / "cache")
