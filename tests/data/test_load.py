import io
import os
import pathlib
import struct
import sys
import zlib

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

import keras_cbam.data.load
from keras_cbam.data.image_files import flatten, read_pictures, resize_arrays
from keras_cbam.data.load import load_data
from keras_cbam.errors import DataError

SIZE = 32
RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
WHITE = (255, 255, 255)


def solid(color, size=(40, 40), mode="RGB"):
    return Image.new(mode, size, color)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def grey_level(images):
    return images[:, SIZE // 2, SIZE // 2, 0].tolist()


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten PNGs each, of the grey levels 0..9 and 100..109."""
    for name, base in (("cat", 0), ("dog", 100)):
        for i in range(10):
            save(tmp_path / "data" / name / f"{i}.png", solid(base + i, mode="L"))
    return tmp_path / "data"


def save_npz(path, x=None, y=None, **arrays):
    if x is None:
        x = np.zeros((10, 8, 8), "uint8")
    if y is None:
        y = np.arange(len(x)) % 2
    np.savez(path, x=x, y=y, **arrays)
    return path


def one_sentence(error):
    message = str(error.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def assert_same(first, second):
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    assert first.class_names == second.class_names


# Embedded data and keras.datasets


def test_embedded_pictures():
    data_set = load_data(None, 56)
    assert data_set.name == "fashion_mnist_7k"
    assert data_set.train_images.shape == (6000, 56, 56, 3)
    assert data_set.test_images.shape == (1000, 56, 56, 3)
    for part in (data_set.train_images, data_set.test_images):
        assert part.dtype == np.uint8
    for labels, pictures in ((data_set.train_labels, 6000), (data_set.test_labels, 1000)):
        assert labels.dtype == np.int32
        assert labels.shape == (pictures,)
    assert data_set.class_names[0] == "T-shirt/top"
    assert data_set.class_names[9] == "Ankle boot"
    assert data_set.skipped == []

    package = pathlib.Path(keras_cbam.data.load.__file__).parent / "fashion_mnist"
    with np.load(package / "fashion_mnist_7k.npz") as arrays:
        np.testing.assert_array_equal(data_set.train_labels, arrays["y"])
        picture = Image.fromarray(arrays["xt"][999, :, :, 0])
    expected = np.asarray(picture.resize((56, 56), Image.Resampling.BILINEAR))
    for channel in range(3):
        np.testing.assert_array_equal(data_set.test_images[999, :, :, channel], expected)
    assert "Copyright (c) 2017 Zalando SE" in (package / "LICENSE").read_text()


def fake_load_data(classes, shape):
    x = np.zeros((classes, *shape), "uint8")
    x[..., 0] = 9
    y = np.arange(classes, dtype="uint8")
    y = y[:, None] if len(shape) == 3 else y
    return lambda: ((x, y), (x[:5], y[:5]))


@pytest.mark.parametrize(
    ("name", "shape", "class_names"),
    [
        ("mnist", (28, 28), {0: "0", 9: "9"}),
        ("fashion_mnist", (28, 28), {0: "T-shirt/top", 4: "Coat", 9: "Ankle boot"}),
        ("cifar10", (32, 32, 3), {0: "airplane", 6: "frog", 9: "truck"}),
        ("cifar100", (32, 32, 3), {0: "apple", 23: "cloud", 58: "pickup_truck", 99: "worm"}),
    ],
)
def test_keras_datasets(monkeypatch, tmp_path, name, shape, class_names):
    # A folder of that name must not hide the data set.
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    classes = max(class_names) + 1
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", fake_load_data(classes, shape))
    data_set = load_data(name, SIZE)
    assert data_set.name == name
    assert data_set.train_images.shape == (classes, SIZE, SIZE, 3)
    assert data_set.train_labels.tolist() == list(range(classes))
    assert data_set.test_labels.tolist() == list(range(5))
    assert len(set(data_set.class_names)) == classes
    assert {label: data_set.class_names[label] for label in class_names} == class_names


def test_keras_datasets_with_channels_first(monkeypatch):
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", fake_load_data(10, (3, 32, 32)))
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    images = load_data("cifar10", SIZE).train_images
    assert images.shape == (10, SIZE, SIZE, 3)
    assert (images[:, :, 0] == 9).all()
    assert (images[:, :, 1:] == 0).all()


def test_keras_dataset_without_network(monkeypatch):
    def fail():
        raise Exception("URL fetch failure on https://somewhere: None -- no name\nmore")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(DataError) as error:
        load_data("mnist", SIZE)
    message = one_sentence(error)
    assert "'mnist' cannot be downloaded: URL fetch failure" in message
    assert "more" not in message


# Arguments


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("image_size", [31, 0, -64, 64.0, "64", None, True]),
        ("seed", [-1, 0.5, None]),
        ("test_fraction", [0, 1, -0.5, 1.5, float("nan")]),
    ],
)
def test_arguments_outside_their_range(argument, values):
    for value in values:
        with pytest.raises(ValueError, match=f"`{argument}` must .*Received: {argument}=") as error:
            load_data(**{"data": None, "image_size": SIZE, argument: value})
        assert not isinstance(error.value, DataError)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("cats", "no such file or folder as 'cats'.*'mnist', 'fashion_mnist', 'cifar10', 'cifar1"),
        ("cats.npz", "no such file or folder as 'cats.npz'"),
        ("", "no such file or folder as ''"),
        ("a\0b", r"no such file or folder as 'a\\x00b'"),
        (b"mnist", "must be None, a name or a path, received b'mnist'"),
        (5, "must be None, a name or a path, received 5"),
        (__file__, "Expected a folder of pictures or an .npz file, received '.*test_load.py'"),
    ],
)
def test_no_such_data(data, message):
    with pytest.raises(DataError, match=message) as error:
        load_data(data, SIZE)
    one_sentence(error)


def test_too_large_for_memory(monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"a.npz' do not fit in memory"):
        load_data(save_npz(tmp_path / "a.npz"), 10**6)


# .npz files


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint8", (0, 200), (0, 200)),
        ("int64", (1, 200), (1, 200)),
        ("int8", (1, 127), (1, 127)),
        ("uint16", (0, 51400), (0, 200)),
        ("uint16", (0, 65535), (0, 255)),
        ("uint16", (1, 255), (1, 255)),
        ("float16", (0, 1.001), (0, 255)),
        ("float32", (0.2, 1.0), (51, 255)),
        ("float64", (0.0, 0.004), (0, 1)),
        ("float32", (0.4, 200.6), (0, 201)),
        ("float64", (1.0, 255.0), (1, 255)),
        (">u2", (257, 51400), (1, 200)),
    ],
)
def test_npz_pixel_values(tmp_path, dtype, values, expected):
    x = np.empty((4, 8, 8), dtype)
    x[0::2], x[1::2] = values
    # The test part is dark: the training part decides on the scale.
    arrays = {"xt": x[:1], "yt": np.array([1])}
    data_set = load_data(save_npz(tmp_path / "a.npz", x, **arrays), SIZE)
    for channel in range(3):
        assert data_set.train_images[:, 9, 9, channel].tolist() == [*expected, *expected]
    assert data_set.test_images[0, 9, 9, 0] == expected[0]
    assert data_set.test_labels.tolist() == [1]
    assert data_set.name == "a.npz"


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4), (8, 12, 3), (48, 32)])
def test_npz_shapes(tmp_path, shape):
    x = np.zeros((4, *shape), "uint8")
    color = np.array((*RED, 0), "uint8")
    x[:] = 30 if len(shape) == 2 else color[: shape[-1]]
    images = load_data(save_npz(tmp_path / "a.npz", x, [0, 0, 1, 1]), SIZE).train_images
    expected = {3: RED, 4: RED}.get(shape[-1], (30, 30, 30) if len(shape) == 2 else (200,) * 3)
    assert images.shape == (2, SIZE, SIZE, 3)
    assert (images == expected).all()


def test_arrays_are_cut_to_their_centre():
    x = np.zeros((1, 32, 96, 3), "uint8")
    x[:, :, 32:64] = RED
    assert (resize_arrays(x, 1.0, SIZE) == RED).all()


def test_arrays_of_the_right_size_are_kept():
    x = np.random.default_rng(0).integers(0, 256, (600, SIZE, SIZE, 3), "uint8")
    np.testing.assert_array_equal(resize_arrays(x, 1.0, SIZE), x)


@pytest.mark.parametrize("labels_shape", [(10,), (10, 1)])
def test_npz_with_the_keys_of_keras(tmp_path, labels_shape):
    x = np.arange(10, dtype="uint8")[:, None, None] * np.ones((10, 8, 8), "uint8")
    y = (np.arange(10) % 2).reshape(labels_shape).astype("uint8")
    names = np.array(["cat", "dog"])
    np.savez(tmp_path / "A.NPZ", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3], other=names)
    os.rename(tmp_path / "A.NPZ.npz", tmp_path / "A.NPZ")
    data_set = load_data(str(tmp_path / "A.NPZ"), SIZE)
    assert grey_level(data_set.train_images) == list(range(10))
    assert data_set.train_labels.tolist() == [0, 1] * 5
    assert data_set.train_labels.dtype == np.int32
    assert grey_level(data_set.test_images) == [0, 1, 2]
    assert data_set.class_names == ["0", "1"]


@pytest.mark.parametrize("dtype", ["U", "S"])
def test_npz_class_names(tmp_path, dtype):
    path = save_npz(tmp_path / "a.npz", class_names=np.array(["cat", "dog"], dtype))
    assert load_data(path, SIZE).class_names == ["cat", "dog"]


PICTURES = np.zeros((10, 8, 8), "uint8")
LABELS = np.arange(10) % 2
NAN = np.full((10, 8, 8), 0.5)
NAN[3, 3, 3] = np.nan
INFINITE = np.where(np.isnan(NAN), np.inf, NAN)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": PICTURES}, "must hold the arrays x and y, .*received x"),
        ({"a": PICTURES, "b\n": LABELS}, r"must hold the arrays x and y, .*received a, b\\n"),
        ({}, "must hold the arrays x and y, .*received none"),
        ({"x": PICTURES, "y": LABELS, "xt": PICTURES}, "must hold .*received x, y, xt"),
        ({"x": PICTURES[0], "y": LABELS}, r"pictures x .*shape .*received \(8, 8, 1\)|\(8, 8\)"),
        ({"x": PICTURES[:0], "y": LABELS[:0]}, r"pictures x .*received \(0, 8, 8, 1\)"),
        ({"x": np.zeros((10, 3, 8, 8)), "y": LABELS}, r"received \(10, 3, 8, 8\)"),
        ({"x": np.zeros((10, 8, 8, 2)), "y": LABELS}, r"received \(10, 8, 8, 2\)"),
        ({"x": np.array(5), "y": LABELS}, r"received \(\)"),
        ({"x": NAN, "y": LABELS}, r"values in \[0, 255\], received nan to nan"),
        ({"x": INFINITE, "y": LABELS}, r"values in \[0, 255\], received 0.5 to inf"),
        ({"x": -INFINITE, "y": LABELS}, r"values in \[0, 1\], received -inf to -0.5"),
        ({"x": PICTURES - 0.5, "y": LABELS}, r"in \[0, 1\], received -0.5 to -0.5"),
        ({"x": PICTURES + 256.0, "y": LABELS}, r"in \[0, 255\], received 256.0"),
        ({"x": PICTURES + np.int32(256), "y": LABELS}, r"in \[0, 255\], received 256 "),
        ({"x": PICTURES - np.int8(1), "y": LABELS}, "received -1 to -1"),
        ({"x": PICTURES > 0, "y": LABELS}, "must be integers or floats, received bool"),
        ({"x": PICTURES + 0j, "y": LABELS}, "must be integers or floats, received complex"),
        ({"x": PICTURES.astype(str), "y": LABELS}, "must be integers or floats, received <U"),
        ({"x": PICTURES, "y": LABELS[:9]}, r"labels y .*shape \(10,\).*received \(9,\)"),
        ({"x": PICTURES, "y": np.eye(10, 2, dtype=int)}, r"received \(10, 2\)"),
        ({"x": PICTURES, "y": LABELS + 0.5}, "must be integers, received float64"),
        ({"x": PICTURES, "y": LABELS.astype(str)}, "must be integers, received <U"),
        ({"x": PICTURES, "y": LABELS > 0}, "must be integers, received bool"),
        ({"x": PICTURES, "y": LABELS - 1}, "must not be negative, received -1"),
        ({"x": PICTURES, "y": LABELS * 0}, "name one class, expected at least 2"),
        ({"x": PICTURES, "y": LABELS + 1}, "all of 0..K-1 .*received 2 different ones up to 2"),
        ({"x": PICTURES, "y": LABELS * 10**18}, "received 2 different ones up to 10000"),
        ({"x": PICTURES, "y": np.arange(10) // 9}, "class '1' .*at least 2 pictures.*received 1"),
        ({"class_names": ["a"]}, r"must be in 0..0 for 1 class_names, received 1"),
        ({"class_names": ["a", "b", "c"]}, "class 'c' .*has no picture to train on"),
        ({"class_names": ["a", "a"]}, r"must differ, received \['a', 'a'\]"),
        ({"class_names": [1, 2]}, r"must be a list of strings, received int64 of shape \(2,\)"),
        ({"class_names": [["a", "b"]]}, "must be a list of strings, received <U1 of shape"),
        ({"xt": PICTURES, "yt": LABELS + 1}, "labels yt .*in 0..1 .*received 2"),
        ({"xt": PICTURES, "yt": LABELS - 1}, "labels yt .*must not be negative, received -1"),
        ({"xt": PICTURES, "yt": LABELS[:5]}, r"labels yt .*shape \(10,\).*received \(5,\)"),
        ({"xt": PICTURES[:0], "yt": LABELS[:0]}, r"pictures xt .*received \(0, 8, 8, 1\)"),
        ({"xt": PICTURES / 2, "yt": LABELS}, "pictures xt .*must be uint8 as x, received float64"),
        (
            {"x": PICTURES / 2, "xt": PICTURES + 9.0, "yt": LABELS},
            r"pictures xt .*values in \[0, 1\], received 9.0 to 9.0",
        ),
    ],
)
def test_npz_with_arrays_that_do_not_fit(tmp_path, arrays, message):
    if "class_names" in arrays or "xt" in arrays:
        arrays = {"x": PICTURES, "y": LABELS, **arrays}
    if arrays.keys() == {"x", "y", "xt"}:
        arrays["y"] = LABELS
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        load_data(tmp_path / "some.npz", SIZE)
    assert "some.npz" in one_sentence(error)


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (10, 8, 8), "uint8")
GOOD_NPZ = npz_bytes(x=NOISE, y=LABELS)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not an archive", id="text"),
        pytest.param(b"PK\x03\x04", id="head"),
        pytest.param(GOOD_NPZ[: len(GOOD_NPZ) // 2], id="cut short"),
        pytest.param(GOOD_NPZ.replace(GOOD_NPZ[200:230], bytes(30)), id="damaged"),
        pytest.param(npy_bytes(PICTURES), id="npy"),
        pytest.param(npz_bytes(x=PICTURES, y=np.array([{}] * 10)), id="pickled labels"),
        pytest.param(
            npz_bytes(x=PICTURES, y=LABELS, class_names=np.array(["a", None])), id="pickled names"
        ),
        pytest.param(b"\x80\x04K\x01.", id="pickle"),
    ],
)
def test_damaged_npz(tmp_path, content):
    (tmp_path / "some.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"some.npz' cannot be read as an .npz") as error:
        load_data(tmp_path / "some.npz", SIZE)
    one_sentence(error)


def test_pickled_array_that_is_not_used(tmp_path):
    path = save_npz(tmp_path / "a.npz", notes=np.array([{}]))
    assert len(load_data(path, SIZE).test_labels) == 2


# The split


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ((10, 10), 0.2, (2, 2)),
        ((10, 30, 4), 0.25, (2, 8, 1)),
        ((2, 50), 0.01, (1, 1)),
        ((2, 50), 0.99, (1, 49)),
    ],
)
def test_split_is_stratified(tmp_path, counts, fraction, expected):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.arange(len(y), dtype="uint8")[:, None, None] * np.ones((1, 4, 4), "uint8")
    path = save_npz(tmp_path / "a.npz", x, y)
    data_set = load_data(path, SIZE, test_fraction=fraction)
    assert tuple(np.bincount(data_set.test_labels)) == expected
    # Each picture is in one part, in the order of the file, with its own label.
    parts = [grey_level(data_set.train_images), grey_level(data_set.test_images)]
    assert [sorted(part) for part in parts] == parts
    assert sorted(parts[0] + parts[1]) == list(range(len(y)))
    assert y[parts[0]].tolist() == data_set.train_labels.tolist()
    assert y[parts[1]].tolist() == data_set.test_labels.tolist()
    assert_same(data_set, load_data(path, SIZE, test_fraction=fraction))


def test_seed_draws_the_split(folder):
    first, again, other = (load_data(folder, SIZE, seed=seed) for seed in (1, 1, 2))
    assert_same(first, again)
    assert grey_level(first.test_images) != grey_level(other.test_images)
    # The split must stay what it was, on every machine.
    assert grey_level(first.test_images) == [4, 8, 100, 101]


# Folders


def test_folder(folder):
    data_set = load_data(folder, SIZE)
    assert data_set.name == "data"
    assert data_set.class_names == ["cat", "dog"]
    assert data_set.train_images.shape == (16, SIZE, SIZE, 3)
    assert data_set.train_images.dtype == np.uint8
    assert data_set.train_labels.dtype == data_set.test_labels.dtype == np.int32
    levels = grey_level(data_set.train_images) + grey_level(data_set.test_images)
    assert sorted(levels) == [*range(10), *range(100, 110)]
    assert data_set.train_labels.tolist() == [0] * 8 + [1] * 8
    assert data_set.test_labels.tolist() == [0, 0, 1, 1]
    assert (np.array(levels) // 100).tolist() == [0] * 8 + [1] * 8 + [0, 0, 1, 1]
    assert data_set.skipped == []


def test_order_and_what_is_read(tmp_path):
    names = ["b.JPG", "a/z.jpeg", "a/b/c/d.Png", "C.bmp", "10.gif", "9.png", "folder.png/x.png"]
    for position, name in enumerate(sorted(names)):
        save(tmp_path / "train" / "ä" / name, solid(20 * position, mode="L"))
    for name in ("Z", "b", "B"):
        save(tmp_path / "train" / name / "1.png", solid(0, mode="L"))
    for name in ("ä", "Z", "b", "B"):
        save(tmp_path / "test" / name / "1.png", solid(0, mode="L"))
    for other in ("ä/notes.txt", "ä/.hidden.png", "ä/.hidden/1.png", ".hidden/1.png", "ä/jpg"):
        (tmp_path / "train" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / other).write_bytes(b"")
    data_set = load_data(tmp_path, SIZE)
    assert data_set.class_names == ["B", "Z", "b", "ä"]
    assert data_set.train_labels.tolist() == [0, 1, 2] + [3] * 7
    levels = np.array(grey_level(data_set.train_images)[3:])
    np.testing.assert_allclose(levels, np.arange(7) * 20, atol=1)
    assert data_set.skipped == [
        f"{tmp_path / 'train' / 'ä' / name}: not named as a JPEG, PNG, BMP or GIF picture"
        for name in ("jpg", "notes.txt")
    ]


def test_threads_do_not_change_the_result(folder, monkeypatch):
    results = []
    for cores in (1, 8, None):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        results.append(load_data(folder, SIZE))
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), ("Train", "Test")])
def test_folder_with_two_parts(tmp_path, parts):
    for part, base, count in zip(parts, (0, 100), (3, 1)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                level = base + 50 * label + i
                save(tmp_path / part / name / f"{i}.png", solid(level, mode="L"))
    (tmp_path / parts[1] / "cat" / "bad.png").write_bytes(b"bad")
    save(tmp_path / "stray.png", solid(RED))
    (tmp_path / "notes.txt").write_text("")
    data_set = load_data(tmp_path, SIZE, test_fraction=0.5)
    assert grey_level(data_set.train_images) == [0, 1, 2, 50, 51, 52]
    assert data_set.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert grey_level(data_set.test_images) == [100, 150]
    assert data_set.test_labels.tolist() == [0, 1]
    assert data_set.class_names == ["cat", "dog"]
    assert [line.split(": ")[0] for line in data_set.skipped] == [
        str(tmp_path / "notes.txt"),
        str(tmp_path / "stray.png"),
        str(tmp_path / parts[1] / "cat" / "bad.png"),
    ]


def test_classes_that_are_named_as_parts(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b", "bus/a", "bus/b"):
        save(tmp_path / "three" / f"{name}.png", solid(RED))
    assert load_data(tmp_path / "three", SIZE).class_names == ["bus", "test", "train"]
    for name in ("train/a", "train/b", "test/a", "test/b"):
        save(tmp_path / "two" / f"{name}.png", solid(RED))
    assert load_data(tmp_path / "two", SIZE).class_names == ["test", "train"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that differ in case only")
def test_parts_that_differ_in_case_only_are_classes(tmp_path):
    for name in ("Train", "test", "train"):
        for picture in "ab":
            save(tmp_path / name / picture / "1.png", solid(RED))
    assert load_data(tmp_path, SIZE).class_names == ["Train", "test", "train"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "must have a subfolder .*received no subfolders"),
        (["a.png"], "received no subfolders .1 skipped, .*a.png: a picture outside"),
        ([".cat/a.png"], "received no subfolders"),
        (["cat/a.png", "cat/b.png"], "at least 2 classes, received 1 subfolder"),
        (["cat/a.png", "cat/b.png", "dog/"], "class 'dog' .*must have readable .*received none"),
        (["cat/a.png", "cat/b.png", "dog/a.txt"], "class 'dog' .*received none"),
        (
            ["cat/a.png", "cat/b.png", "dog/bad.png"],
            "class 'dog' .*received none .1 skipped, the first is .*bad.png: not a JPEG, PNG, BMP",
        ),
        (["cat/a.png", "cat/b.png", "dog/a.png"], "class 'dog' .*at least 2 pictures.*received 1"),
        (
            ["cat/a.png", "cat/b.png", "dog/a.png", "dog/bad.png"],
            "class 'dog' .*at least 2 pictures.*received 1 .1 skipped",
        ),
        (
            ["train/cat/a.png", "train/dog/a.png", "val/cat/a.png"],
            "val' must have .*received 1 subfolder",
        ),
        (
            ["train/cat/a.png", "train/dog/a.png", "test/a.png"],
            "test' must have .*received no subfolders",
        ),
        (
            [f"train/{name}/a.png" for name in "abc"] + [f"val/{name}/a.png" for name in "ab"],
            "must hold the same classes, received the class 'c' in one only",
        ),
        (
            ["train/a/a.png", "train/b/a.png", "val/a/a.png", "val/b/bad.png"],
            "class 'b' of '.*val' .*received none",
        ),
        (
            [f"{part}/{name}/a.png" for part in ("train", "val", "test") for name in "ab"],
            "two parts, train and one of val and test, received all three",
        ),
    ],
)
def test_folder_that_cannot_be_used(tmp_path, files, message):
    root = tmp_path / "pets"
    root.mkdir()
    for name in files:
        path = root / name
        if name.endswith("/"):
            path.mkdir()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.stem == "a" or path.stem == "b":
            save(path, solid(RED), format="PNG")
        else:
            path.write_bytes(b"bad")
    with pytest.raises(DataError, match=message) as error:
        load_data(root, SIZE)
    assert "pets" in one_sentence(error)


@pytest.mark.parametrize("depth", ["", "cat"])
def test_folder_without_permission(folder, monkeypatch, depth):
    # The tests may run as root, who may read everything.
    listdir = os.listdir

    def refuse(path):
        if str(path) == str(folder / depth):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError, match="Permission denied") as error:
        load_data(folder, SIZE)
    assert str(folder) in one_sentence(error)


def test_many_classes(tmp_path):
    picture = save(tmp_path / "picture.bmp", solid(RED, (2, 2))).read_bytes()
    for label in range(300):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for name in ("a.bmp", "b.bmp"):
            (tmp_path / "data" / str(label) / name).write_bytes(picture)
    data_set = load_data(tmp_path / "data", SIZE)
    assert data_set.train_labels.tolist() == data_set.test_labels.tolist() == list(range(300))
    assert data_set.class_names[:3] == ["0", "1", "10"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are any bytes")
def test_odd_names(folder):
    for name in (b"\xff\xfe", b"line\nend", "日本 '\"".encode(), b"-rf", b"$(x) %s {0}"):
        odd = pathlib.Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
        for i in range(2):
            save(odd / f"{i}.png", solid(RED))
        (odd / "bad\x1b[31m\n.png").write_bytes(b"bad")
    data_set = load_data(folder, SIZE)
    assert data_set.class_names == [
        *("$(x) %s {0}", "-rf", "cat", "dog", r"line\nend", "日本 '\"", r"\udcff\udcfe")
    ]
    assert len(data_set.skipped) == 5
    for line in data_set.skipped:
        assert line.isprintable()
        line.encode("utf-8")
        assert r"bad\x1b[31m\n.png: not a" in line


# Links


def test_links_that_lead_outside(folder, tmp_path):
    outside = tmp_path / "outside"
    save(outside / "secret.png", solid(RED))
    (outside / "notes.txt").write_text("")
    # A name that starts as the data folder's does is still outside.
    save(tmp_path / "data2" / "1.png", solid(RED))
    expected = {}
    for link, target in {
        "cat/a.png": outside / "secret.png",
        "cat/b.png": pathlib.Path("../../outside/secret.png"),
        "cat/broken.png": tmp_path / "nothing.png",
        "cat/nested": outside,
        "cat/notes.txt": outside / "notes.txt",
        "cat/up": tmp_path,
        "cow": outside,
        "data2": tmp_path / "data2",
    }.items():
        (folder / link).symlink_to(target)
        expected[str(folder / link)] = "a symbolic link that leads outside the data folder"
    (folder / "cat" / ".hidden").symlink_to(outside)
    data_set = load_data(folder, SIZE)
    assert dict(line.split(": ") for line in data_set.skipped) == expected
    assert len(data_set.skipped) == len(expected)
    assert data_set.class_names == ["cat", "dog"]
    assert len(data_set.train_labels) + len(data_set.test_labels) == 20
    with pytest.raises(DataError, match=r"8 skipped, the first is .*leads outside"):
        load_data(folder, SIZE, strict=True)


def test_links_inside_are_followed(folder, tmp_path):
    (folder / "cat" / "more.png").symlink_to(folder / "dog" / "1.png")
    (folder / "dog" / "more").symlink_to("../cat")
    (folder / "pony").symlink_to(folder / "dog")
    (tmp_path / "link").symlink_to(folder)
    data_set = load_data(tmp_path / "link", SIZE)
    labels = np.concatenate([data_set.train_labels, data_set.test_labels])
    assert np.bincount(labels).tolist() == [11, 21, 21]
    assert data_set.class_names == ["cat", "dog", "pony"]
    assert data_set.skipped == []


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
    data_set = load_data(folder, SIZE)
    reasons = dict(line.split(": ") for line in data_set.skipped)
    for name in ("loop.png", "broken.png"):
        assert reasons[str(folder / "cat" / name)] == "not a regular file, or a broken link"
    assert reasons[str(folder / "cat" / "self")] == "the same folder as another one of its class"
    assert len(reasons) < 200


def test_deep_nesting(folder, monkeypatch):
    # Deeper than Python functions call each other, and then than a path may be long.
    names = ["d"] * 1100 + ["d" * 100] * 50
    monkeypatch.chdir(folder / "cat")
    try:
        for depth, name in enumerate(names):
            os.mkdir(name)
            os.chdir(name)
            if depth == 1050:
                solid(RED).save("deep.png")
        data_set = load_data(folder, SIZE, test_fraction=0.01)
    finally:
        # By hand, as what clears up after tests calls itself for each level.
        for name in reversed(names):
            if os.path.exists("deep.png"):
                os.remove("deep.png")
            os.chdir("..")
            os.rmdir(name)
    assert data_set.train_labels.tolist() == [0] * 10 + [1] * 9
    # Paths over the system's limit do not lead to a folder: they are ignored as other names are.
    assert len(data_set.skipped) <= 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_does_not_hang(folder):
    os.mkfifo(folder / "cat" / "pipe.png")
    (line,) = load_data(folder, SIZE).skipped
    assert line == f"{folder / 'cat' / 'pipe.png'}: not a regular file, or a broken link"


# Decoding


def read_one(path, size=SIZE):
    images, (reason,) = read_pictures([str(path)], size)
    assert reason is None
    return images[0]


def transparent(mode, color, alpha):
    """The left half of a picture opaque, the right half as transparent as `alpha` says."""
    image = solid(color, (64, 64), mode)
    mask = Image.new("L", (64, 64), 255)
    mask.paste(alpha, (32, 0, 64, 64))
    image.putalpha(mask)
    return image


def palette_with_alpha():
    image = Image.new("P", (64, 64), 0)
    image.paste(1, (32, 0, 64, 64))
    image.putpalette([*RED, *BLUE])
    return image


def sixteen_bits(value):
    return Image.fromarray(np.full((64, 64), value, "uint16"))


@pytest.mark.parametrize(
    ("image", "file_format", "options", "left", "right"),
    [
        (solid(RED), "PNG", {}, RED, RED),
        (solid(RED), "BMP", {}, RED, RED),
        (solid(RED), "GIF", {}, RED, RED),
        (solid(RED), "JPEG", {"quality": 95}, RED, RED),
        (solid(99, mode="L"), "JPEG", {"quality": 95}, (99,) * 3, (99,) * 3),
        (solid(99, mode="L"), "PNG", {}, (99,) * 3, (99,) * 3),
        (solid(1, mode="1"), "PNG", {}, WHITE, WHITE),
        (solid(0, mode="1"), "BMP", {}, (0,) * 3, (0,) * 3),
        (palette_with_alpha(), "PNG", {}, RED, BLUE),
        (palette_with_alpha(), "BMP", {}, RED, BLUE),
        (palette_with_alpha(), "PNG", {"transparency": 1}, RED, WHITE),
        (palette_with_alpha(), "PNG", {"transparency": b"\xff\x80"}, RED, (142, 142, 227)),
        (palette_with_alpha(), "GIF", {"transparency": 1}, RED, WHITE),
        (transparent("RGB", RED, 0), "PNG", {}, RED, WHITE),
        (transparent("RGB", RED, 128), "PNG", {}, RED, (227, 142, 142)),
        (transparent("L", 99, 0), "PNG", {}, (99,) * 3, WHITE),
        (solid(RED), "PNG", {"transparency": RED}, WHITE, WHITE),
        (solid(99, mode="L"), "PNG", {"transparency": 99}, WHITE, WHITE),
        (solid((0, 200, 200, 0), mode="CMYK"), "JPEG", {"quality": 95}, (255, 55, 55), None),
        (sixteen_bits(51400), "PNG", {}, (200,) * 3, (200,) * 3),
        (sixteen_bits(255), "PNG", {}, (1,) * 3, (1,) * 3),
        (sixteen_bits(65535), "PNG", {}, WHITE, WHITE),
    ],
)
def test_modes(tmp_path, image, file_format, options, left, right):
    path = save(tmp_path / "a.png", image, format=file_format, **options)
    tolerance = 3 if file_format == "JPEG" else 1
    pixels = read_one(path)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[:, :15] - np.array(left), 0, atol=tolerance)
    np.testing.assert_allclose(pixels[:, 17:] - np.array(right or left), 0, atol=tolerance)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("I", (4, 4), 51400), 200),
        (Image.new("I", (4, 4), -5), 0),
        (Image.new("I", (4, 4), 10**6), 255),
        (Image.new("I;16", (4, 4), 257), 1),
        (Image.new("I;16B", (4, 4), 51400), 200),
        (Image.new("F", (4, 4), 99.0), 99),
        (Image.new("F", (4, 4), 1e6), 255),
        (Image.new("1", (4, 4), 1), 255),
    ],
)
def test_flatten_of_modes_without_a_file(image, expected):
    assert flatten(image).mode == "L"
    assert (np.asarray(flatten(image)) == expected).all()


def test_sixteen_bit_picture_with_a_transparent_level(tmp_path):
    path = save(tmp_path / "a.png", sixteen_bits(7000))
    # Pillow does not write this chunk, which goes before the pixels.
    chunk = b"tRNS" + struct.pack(">H", 7000)
    chunk = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = path.read_bytes()
    start = content.index(b"IDAT") - 4
    path.write_bytes(content[:start] + chunk + content[start:])
    assert (read_one(path) == 255).all()


def test_first_frame_of_an_animation(tmp_path):
    frames = [solid(BLUE), solid(GREEN)]
    path = save(tmp_path / "a.gif", solid(RED), save_all=True, append_images=frames)
    np.testing.assert_array_equal(read_one(path)[5, 5], RED)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(tmp_path, orientation, file_format):
    image = Image.new("RGB", (64, 64))
    for box, color in {(0, 0): RED, (32, 0): GREEN, (0, 32): BLUE, (32, 32): WHITE}.items():
        image.paste(color, (*box, box[0] + 32, box[1] + 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a", image, format=file_format, exif=exif, quality=95, subsampling=0)
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened).resize((SIZE, SIZE), Image.Resampling.BOX)
    np.testing.assert_allclose(read_one(path)[8::16, 8::16], np.asarray(expected)[8::16, 8::16])


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0xyz"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_damaged_exif_leaves_the_picture(tmp_path, exif, file_format):
    path = save(tmp_path / "a", solid(RED), format=file_format, exif=exif)
    np.testing.assert_allclose(read_one(path)[5, 5] - np.array(RED), 0, atol=3)


@pytest.mark.parametrize(
    ("file_format", "suffix"), [("JPEG", "png"), ("PNG", "jpg"), ("BMP", "gif"), ("GIF", "bmp")]
)
def test_content_decides_on_the_format(tmp_path, file_format, suffix):
    path = save(tmp_path / f"a.{suffix}", solid(RED), format=file_format)
    np.testing.assert_allclose(read_one(path)[5, 5] - np.array(RED), 0, atol=3)


@pytest.mark.parametrize(("width", "height"), [(96, 32), (32, 96), (300, 100), (100, 300)])
def test_centre_square(tmp_path, width, height):
    image = solid(RED, (width, height))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste(BLUE, (left, top, left + side, top + side))
    # Filtering takes in a little of what is cut off, at the edge.
    assert (read_one(save(tmp_path / "a.png", image))[1:-1, 1:-1] == BLUE).all()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_tiny_pictures(tmp_path, width, height):
    assert (read_one(save(tmp_path / "a.png", solid(RED, (width, height)))) == RED).all()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_resizing_is_antialiased(tmp_path, file_format):
    stripes = np.zeros((512, 512), "uint8")
    stripes[:, ::2] = 255
    path = save(tmp_path / "a", Image.fromarray(stripes), format=file_format, quality=95)
    np.testing.assert_allclose(read_one(path).astype(int), 127, atol=4)


def test_resizing_is_bilinear(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 50, 3), "uint8"))
    expected = image.resize((64, 64), Image.Resampling.BILINEAR, box=(0, 10, 50, 60))
    path = save(tmp_path / "a.png", image)
    np.testing.assert_array_equal(read_one(path, 64), np.asarray(expected))


def truncated(file_format, part):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format)
    return buffer.getvalue()[: int(len(buffer.getvalue()) * part)]


def other_format(file_format):
    buffer = io.BytesIO()
    solid(RED).save(buffer, file_format)
    return buffer.getvalue()


NOT_A_PICTURE = "not a JPEG, PNG, BMP or GIF picture"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", NOT_A_PICTURE, id="empty"),
        pytest.param(b"hello\n", NOT_A_PICTURE, id="text"),
        pytest.param(other_format("TIFF"), NOT_A_PICTURE, id="tiff"),
        pytest.param(other_format("PPM"), NOT_A_PICTURE, id="ppm"),
        pytest.param(other_format("ICO"), NOT_A_PICTURE, id="ico"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", NOT_A_PICTURE, id="postscript"),
        pytest.param(truncated("PNG", 0.5), "truncated", id="png"),
        pytest.param(truncated("JPEG", 0.5), "truncated", id="jpeg"),
        pytest.param(truncated("BMP", 0.5), "truncated", id="bmp"),
        pytest.param(truncated("GIF", 0.5), "truncated", id="gif"),
        pytest.param(truncated("PNG", 0.001), NOT_A_PICTURE, id="png head"),
        pytest.param(truncated("JPEG", 0.01), None, id="jpeg head"),
    ],
)
def test_unreadable_file(folder, content, reason):
    path = folder / "cat" / "bad.png"
    path.write_bytes(content)
    data_set = load_data(folder, SIZE)
    (line,) = data_set.skipped
    assert line.startswith(f"{path}: ")
    assert reason is None or reason in line
    assert len(data_set.train_labels) + len(data_set.test_labels) == 20
    # The others keep their labels.
    levels = np.array(grey_level(data_set.train_images))
    assert (levels // 100).tolist() == data_set.train_labels.tolist()
    with pytest.raises(DataError, match=r"1 skipped, the first is .*bad.png: ") as error:
        load_data(folder, SIZE, strict=True)
    assert str(folder) in one_sentence(error)


def test_skipped_files_are_all_named(folder):
    for name in ("dog/b.png", "cat/a.png", "cat/nested/c.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"bad")
    save(folder / "stray.jpg", solid(RED))
    assert [line.split(": ")[0] for line in load_data(folder, SIZE).skipped] == [
        str(folder / name) for name in ("stray.jpg", "cat/a.png", "cat/nested/c.jpg", "dog/b.png")
    ]
    with pytest.raises(DataError, match=r"4 skipped, the first is .*stray.jpg: a picture outside"):
        load_data(folder, SIZE, strict=True)


@pytest.mark.parametrize("side", [60, 100])
def test_decompression_bomb(folder, monkeypatch, side):
    # Pillow warns of the first size and refuses the second.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    save(folder / "dog" / "bomb.png", solid(RED, (side, side)))
    (line,) = load_data(folder, SIZE).skipped
    assert line.startswith(f"{folder / 'dog' / 'bomb.png'}: Image size ({side**2} pixels) exceeds")


def test_declared_size_is_not_allocated(folder):
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    content = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "bomb.png").write_bytes(content[:16] + header + content[29:])
    (line,) = load_data(folder, SIZE).skipped
    assert "bomb.png: " in line


def test_damaged_bytes_never_raise(tmp_path):
    generator = np.random.default_rng(0)
    paths = []
    for file_format in ("JPEG", "PNG", "BMP", "GIF"):
        original = np.frombuffer(truncated(file_format, 1), "uint8")
        for i in range(60):
            content = original.copy()
            # Half of the damage is in the first bytes, where the structure is.
            places = generator.integers(0, 100 if i % 2 else len(content), 5)
            content[places] = generator.integers(0, 256, 5)
            paths.append(str(tmp_path / f"{file_format}{i}"))
            pathlib.Path(paths[-1]).write_bytes(content.tobytes())
    images, reasons = read_pictures(paths, SIZE)
    assert images.shape == (240, SIZE, SIZE, 3)
    failed = [why for why in reasons if why is not None]
    assert 20 < len(failed) < 240
    assert all(why.strip() and why.isprintable() for why in failed)


def test_photos(tmp_path):
    photo = pytest.importorskip("skimage.data").chelsea()
    rows = [("left", photo[:, :225]), ("right", photo[:, 226:])]
    for name, half in rows:
        for i, suffix in enumerate(("jpg", "jpeg", "png", "bmp", "jpg")):
            tile = Image.fromarray(half[i * 60 : i * 60 + 60 + i, 20 : 110 - 3 * i])
            save(tmp_path / name / f"{i}.{suffix}", tile)
    data_set = load_data(tmp_path, 64, seed=3)
    assert len(data_set.train_labels) == 8
    assert data_set.test_labels.tolist() == [0, 1]
    # Tile 2 of the left half, a PNG: whole rows, the columns about its centre.
    tile = photo[120:182, 20:104]
    expected = Image.fromarray(tile[:, 11:73]).resize((64, 64), Image.Resampling.BILINEAR)
    pictures = np.concatenate([data_set.train_images, data_set.test_images])
    assert (pictures == np.asarray(expected)).all(axis=(1, 2, 3)).sum() == 1


@pytest.mark.parametrize("scale", [1, 3])
def test_large_photo_is_decoded_as_well_as_whole(tmp_path, scale):
    photo = Image.fromarray(pytest.importorskip("skimage.data").chelsea())
    photo = photo.resize((450 * scale, 300 * scale))
    path = save(tmp_path / "a.jpg", photo, quality=95)
    expected = ImageOps.fit(photo, (64, 64), method=Image.Resampling.BILINEAR)
    difference = read_one(path, 64).astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).mean() < 2
