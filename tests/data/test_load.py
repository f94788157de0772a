import io
import os
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

import keras_cbam.data.load
from keras_cbam.data.load import load_data, load_part
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import save_image

SIZE = 32
RED = (200, 30, 30)


def levels(part):
    return part.images.read(np.arange(len(part)))[0][:, SIZE // 2, SIZE // 2, 0].tolist()


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


# Embedded data and keras.datasets


def test_embedded_images():
    data = load_data(None, 56)
    assert data.name == "fashion_mnist_7k"
    assert data.train.images.shape == (6000, 56, 56, 3)
    assert data.test.images.shape == (1000, 56, 56, 3)
    assert data.validation is data.test
    for part, images in ((data.train, 6000), (data.test, 1000)):
        assert part.images.array.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert part.labels.shape == (images,)
    assert data.class_names[0] == "T-shirt/top"
    assert data.class_names[9] == "Ankle boot"
    assert data.skipped == []

    package = pathlib.Path(keras_cbam.data.load.__file__).parent / "fashion_mnist"
    with np.load(package / "fashion_mnist_7k.npz") as arrays:
        np.testing.assert_array_equal(data.train.labels, arrays["y"])
        image = Image.fromarray(arrays["xt"][999, :, :, 0])
    expected = np.asarray(image.resize((56, 56), Image.Resampling.BILINEAR))
    for channel in range(3):
        np.testing.assert_array_equal(data.test.images.array[999, :, :, channel], expected)
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
    data = load_data(name, SIZE)
    assert data.name == name
    assert data.train.images.shape == (classes, SIZE, SIZE, 3)
    assert data.train.labels.tolist() == list(range(classes))
    assert data.test.labels.tolist() == list(range(5))
    assert len(set(data.class_names)) == classes
    assert {label: data.class_names[label] for label in class_names} == class_names


def test_keras_datasets_with_channels_first(monkeypatch):
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", fake_load_data(10, (3, 32, 32)))
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    images = load_data("cifar10", SIZE).train.images.array
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
        ("image_size", [0, -64, 64.0, "64", None, True]),
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
        (__file__, "Expected a folder of images or an .npz file, received '.*test_load.py'"),
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
    data = load_data(save_npz(tmp_path / "a.npz", x, **arrays), SIZE)
    for channel in range(3):
        assert data.train.images.array[:, 9, 9, channel].tolist() == [*expected, *expected]
    assert data.test.images.array[0, 9, 9, 0] == expected[0]
    assert data.test.labels.tolist() == [1]
    assert data.name == "a.npz"


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3), (8, 8, 4), (8, 12, 3), (48, 32)])
def test_npz_shapes(tmp_path, shape):
    x = np.zeros((4, *shape), "uint8")
    color = np.array((*RED, 0), "uint8")
    x[:] = 30 if len(shape) == 2 else color[: shape[-1]]
    images = load_data(save_npz(tmp_path / "a.npz", x, [0, 0, 1, 1]), SIZE).train.images.array
    expected = {3: RED, 4: RED}.get(shape[-1], (30, 30, 30) if len(shape) == 2 else (200,) * 3)
    assert images.shape == (2, SIZE, SIZE, 3)
    assert (images == expected).all()


@pytest.mark.parametrize("labels_shape", [(10,), (10, 1)])
def test_npz_with_the_keys_of_keras(tmp_path, labels_shape):
    x = np.arange(10, dtype="uint8")[:, None, None] * np.ones((10, 8, 8), "uint8")
    y = (np.arange(10) % 2).reshape(labels_shape).astype("uint8")
    names = np.array(["cat", "dog"])
    np.savez(tmp_path / "A.NPZ", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3], other=names)
    os.rename(tmp_path / "A.NPZ.npz", tmp_path / "A.NPZ")
    data = load_data(str(tmp_path / "A.NPZ"), SIZE)
    assert levels(data.train) == list(range(10))
    assert data.train.labels.tolist() == [0, 1] * 5
    assert data.train.labels.dtype == np.int32
    assert levels(data.test) == [0, 1, 2]
    assert data.class_names == ["0", "1"]


@pytest.mark.parametrize("dtype", ["U", "S"])
def test_npz_class_names(tmp_path, dtype):
    path = save_npz(tmp_path / "a.npz", class_names=np.array(["cat", "dog"], dtype))
    assert load_data(path, SIZE).class_names == ["cat", "dog"]


IMAGES = np.zeros((10, 8, 8), "uint8")
LABELS = np.arange(10) % 2
NAN = np.full((10, 8, 8), 0.5)
NAN[3, 3, 3] = np.nan
INFINITE = np.where(np.isnan(NAN), np.inf, NAN)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, "must hold the arrays x and y, .*received x"),
        ({"a": IMAGES, "b\n": LABELS}, r"must hold the arrays x and y, .*received a, b\\n"),
        ({}, "must hold the arrays x and y, .*received none"),
        ({"x": IMAGES, "y": LABELS, "xt": IMAGES}, "must hold .*received x, y, xt"),
        ({"x": IMAGES, "y": LABELS, "yv": LABELS}, "must hold .*received x, y, yv"),
        ({"x": IMAGES[0], "y": LABELS}, r"images x .*shape .*received \(8, 8, 1\)|\(8, 8\)"),
        ({"x": IMAGES[:0], "y": LABELS[:0]}, r"images x .*received \(0, 8, 8, 1\)"),
        ({"x": np.zeros((10, 3, 8, 8)), "y": LABELS}, r"received \(10, 3, 8, 8\)"),
        ({"x": np.zeros((10, 8, 8, 2)), "y": LABELS}, r"received \(10, 8, 8, 2\)"),
        ({"x": np.array(5), "y": LABELS}, r"received \(\)"),
        ({"x": NAN, "y": LABELS}, r"values in \[0, 255\], received nan to nan"),
        ({"x": INFINITE, "y": LABELS}, r"values in \[0, 255\], received 0.5 to inf"),
        ({"x": -INFINITE, "y": LABELS}, r"values in \[0, 1\], received -inf to -0.5"),
        ({"x": IMAGES - 0.5, "y": LABELS}, r"in \[0, 1\], received -0.5 to -0.5"),
        ({"x": IMAGES + 256.0, "y": LABELS}, r"in \[0, 255\], received 256.0"),
        ({"x": IMAGES + np.int32(256), "y": LABELS}, r"in \[0, 255\], received 256 "),
        ({"x": IMAGES - np.int8(1), "y": LABELS}, "received -1 to -1"),
        ({"x": IMAGES > 0, "y": LABELS}, "must be integers or floats, received bool"),
        ({"x": IMAGES + 0j, "y": LABELS}, "must be integers or floats, received complex"),
        ({"x": IMAGES.astype(str), "y": LABELS}, "must be integers or floats, received <U"),
        ({"x": IMAGES, "y": LABELS[:9]}, r"labels y .*shape \(10,\).*received \(9,\)"),
        ({"x": IMAGES, "y": np.eye(10, 2, dtype=int)}, r"received \(10, 2\)"),
        ({"x": IMAGES, "y": LABELS + 0.5}, "must be integers, received float64"),
        ({"x": IMAGES, "y": LABELS.astype(str)}, "must be integers, received <U"),
        ({"x": IMAGES, "y": LABELS > 0}, "must be integers, received bool"),
        ({"x": IMAGES, "y": LABELS - 1}, "must not be negative, received -1"),
        ({"x": IMAGES, "y": LABELS * 0}, "labels .*must name at least 2 classes, received one"),
        ({"x": IMAGES, "y": LABELS + 1}, "all of 0..K-1 .*received 2 different ones up to 2"),
        ({"x": IMAGES, "y": LABELS * 10**18}, "received 2 different ones up to 10000"),
        ({"x": IMAGES, "y": np.arange(10) // 9}, "class '1' .*at least 2 images.*received 1"),
        ({"class_names": ["a"]}, r"must be in 0..0 for 1 class_names, received 1"),
        (
            {"class_names": ["a", "b", "c"]},
            r"each have an image to train on, received none of \['c'\]",
        ),
        ({"class_names": ["a", "a"]}, r"must differ, received \['a', 'a'\]"),
        ({"class_names": [1, 2]}, r"must be a list of strings, received int64 of shape \(2,\)"),
        ({"class_names": [["a", "b"]]}, "must be a list of strings, received <U1 of shape"),
        ({"xt": IMAGES, "yt": LABELS + 1}, "class '2' .* is not one of the 2 classes .*, '0', '1'"),
        ({"xv": IMAGES, "yv": LABELS + 1}, "class '2' .* is not one of the 2 classes"),
        (
            {"xt": IMAGES, "yt": LABELS + 1, "class_names": ["a", "b"]},
            "labels yt .*in 0..1 for 2 class_names, received 2",
        ),
        ({"xt": IMAGES, "yt": LABELS - 1}, "labels yt .*must not be negative, received -1"),
        ({"xt": IMAGES, "yt": LABELS[:5]}, r"labels yt .*shape \(10,\).*received \(5,\)"),
        ({"xt": IMAGES[:0], "yt": LABELS[:0]}, r"images xt .*received \(0, 8, 8, 1\)"),
        ({"xt": IMAGES / 2, "yt": LABELS}, "images xt .*must be uint8 as x, received float64"),
        (
            {"x": IMAGES / 2, "xt": IMAGES + 9.0, "yt": LABELS},
            r"images xt .*values in \[0, 1\], received 9.0 to 9.0",
        ),
    ],
)
def test_npz_with_arrays_that_do_not_fit(tmp_path, arrays, message):
    if arrays.keys() & {"class_names", "xt", "xv"}:
        arrays = {"x": IMAGES, "y": LABELS, **arrays}
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
        pytest.param(npy_bytes(IMAGES), id="npy"),
        pytest.param(npz_bytes(x=IMAGES, y=np.array([{}] * 10)), id="pickled labels"),
        pytest.param(
            npz_bytes(x=IMAGES, y=LABELS, class_names=np.array(["a", None])), id="pickled names"
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
    assert len(load_data(path, SIZE).test.labels) == 2


def test_three_parts_of_an_npz(tmp_path):
    x = np.arange(10, dtype="uint8")[:, None, None] * np.ones((10, 8, 8), "uint8")
    y = np.arange(10) % 2
    short = {"xv": x[2:4], "yv": y[2:4], "xt": x[5:6], "yt": y[5:6]}
    long = {"x_train": x, "y_train": y, "x_val": x[2:4], "y_val": y[2:4]}
    np.savez(tmp_path / "long.npz", **long, x_test=x[5:6], y_test=y[5:6])
    np.savez(tmp_path / "two.npz", **long)
    for path in (save_npz(tmp_path / "short.npz", x, y, **short), tmp_path / "long.npz"):
        data = load_data(path, SIZE)
        assert levels(data.train) == list(range(10))
        assert (levels(data.validation), data.validation.labels.tolist()) == ([2, 3], [0, 1])
        assert (levels(data.test), data.test.labels.tolist()) == ([5], [1])
    data = load_data(tmp_path / "two.npz", SIZE)
    assert data.validation is data.test
    assert levels(data.test) == [2, 3]


# One part


@pytest.fixture(params=["folder", "npz"])
def three_parts(request, tmp_path):
    """Images of the levels 10, 20 and 30 in each part, of the classes a, b and c."""
    parts = {"train": "abc", "val": "abc", "test": "cb"}
    names = {"train": ("x", "y"), "val": ("xv", "yv"), "test": ("xt", "yt")}
    arrays = {"class_names": np.array(list("abc"))}
    for base, (part, classes) in enumerate(parts.items()):
        labels = ["abc".index(name) for name in classes]
        found = [100 * base // 2 + 10 * label for label in labels]
        x = np.array(found, "uint8")[:, None, None] * np.ones((1, 8, 8), "uint8")
        arrays.update(zip(names[part], (x, np.array(labels))))
        for name, level in zip(classes, found):
            save_image(tmp_path / "folder" / part / name / "0.png", level)
    np.savez(tmp_path / "npz.npz", **arrays)
    return tmp_path / {"folder": "folder", "npz": "npz.npz"}[request.param]


@pytest.mark.parametrize(
    ("split", "class_names", "expected_levels", "labels"),
    [
        (None, "abc", [110, 120], [1, 2]),
        ("test", "cbax", [110, 120], [1, 0]),
        ("val", "cab", [50, 60, 70], [1, 2, 0]),
        ("validation", "abc", [50, 60, 70], [0, 1, 2]),
        ("train", "bca", [0, 10, 20], [2, 0, 1]),
    ],
)
def test_labels_of_a_part_are_matched_by_name(
    three_parts, split, class_names, expected_levels, labels
):
    part, names, name, skipped = load_part(three_parts, SIZE, list(class_names), split)
    order = np.argsort(levels(part))
    assert [levels(part)[i] for i in order] == expected_levels
    assert part.labels[order].tolist() == labels
    assert part.labels.dtype == np.int32
    assert (names, name, skipped) == (list(class_names), three_parts.name, [])
    with pytest.raises(DataError, match=r"The class 'c' of .* is not one of the 2 .*, 'a', 'b'"):
        load_part(three_parts, SIZE, ["a", "b"], split)


def test_names_of_a_part_are_its_own(three_parts):
    part, names, *_ = load_part(three_parts, SIZE, split="val")
    assert (names, sorted(part.labels.tolist())) == (["a", "b", "c"], [0, 1, 2])


@pytest.mark.parametrize(
    ("parts", "split", "expected"),
    [
        (("train", "val"), None, "val"),
        (("train", "val"), "test", "val"),
        (("train", "test"), "val", "test"),
        (("train", "test"), "train", "train"),
        (("train", "val", "test"), None, "test"),
    ],
)
def test_which_part(tmp_path, parts, split, expected):
    for part in parts:
        for name in "ab":
            save_image(tmp_path / part / name / "0.png", 0)
    part, *_ = load_part(tmp_path, SIZE, split=split)
    assert part.images.paths[0] == str(tmp_path / expected / "a" / "0.png")


def test_data_without_parts_are_taken_whole(tmp_path):
    for name in "ab":
        save_image(tmp_path / "pets" / name / "0.png", 0)
    x = np.zeros((3, 8, 8), "uint8")
    np.savez(tmp_path / "pets.npz", x=x, y=[2, 0, 2])
    part, names, *_ = load_part(tmp_path / "pets", SIZE)
    assert (part.labels.tolist(), names) == ([0, 1], ["a", "b"])
    part, *_ = load_part(tmp_path / "pets.npz", SIZE, ["1", "0", "2"])
    assert part.labels.tolist() == [2, 1, 2]
    for data in ("pets", "pets.npz"):
        with pytest.raises(DataError, match=f"{data}' have no parts, received the split 'val'"):
            load_part(tmp_path / data, SIZE, split="val")
    # One class is enough to be evaluated on.
    (tmp_path / "pets" / "a" / "0.png").unlink()
    assert load_part(tmp_path / "pets", SIZE, ["a", "b"])[0].labels.tolist() == [1]
    with pytest.raises(DataError, match="at least 2 classes, received 'b'"):
        load_part(tmp_path / "pets", SIZE)


def test_part_of_the_embedded_data():
    names = load_data(None, SIZE).class_names
    part, *_ = load_part(None, SIZE, names[::-1])
    expected = load_data(None, SIZE).test
    np.testing.assert_array_equal(part.labels, 9 - expected.labels)
    np.testing.assert_array_equal(part.images.array, expected.images.array)
    assert len(load_part(None, SIZE, split="train")[0]) == 6000


def test_how_files_are_read(tmp_path):
    for part in ("train", "val"):
        for name in "ab":
            save_image(tmp_path / part / name / "0.png", 0)
    data = load_data(tmp_path, SIZE, resize="center_crop", strict=True)
    for part in (
        data.train,
        data.test,
        load_part(tmp_path, SIZE, None, None, "center_crop", True)[0],
    ):
        assert (part.images.resize, part.images.strict) == ("center_crop", True)
    assert load_data(tmp_path, SIZE).train.images.resize == "square"
    with pytest.raises(ValueError, match="`resize` must be one of"):
        load_data(tmp_path, SIZE, resize="crop")
    with pytest.raises(ValueError, match=r"`split` must be None, 'train'.*Received: split='dev'"):
        load_part(tmp_path, SIZE, split="dev")
