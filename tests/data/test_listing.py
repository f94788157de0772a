import os

import pytest

from keras_cbam.data.image_files import NOT_AN_IMAGE
from keras_cbam.data.listing import find_images
from keras_cbam.errors import DataError
from tests.data.imagenet_folder import save_image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("b.png", "a.jpg", "more/c.gif", "more/deep/d.webp", ".hidden.png", "odd[1].bmp")
    for name in (*names, "odd[2]/e.png"):
        save_image(tmp_path / name, 9)
    os.rename("a.jpg", "a")
    for name in ("notes.txt", "more/bad.png", "more/Thumbs.db"):
        (tmp_path / name).write_bytes(b"bad")
    (tmp_path / "empty").mkdir()
    return tmp_path


MORE = ["more/c.gif", "more/deep/d.webp"]
BAD = [f"more/bad.png: {NOT_AN_IMAGE}"]


@pytest.mark.parametrize(
    ("patterns", "expected", "skipped"),
    [
        (["b.png"], ["b.png"], []),
        (["a"], ["a"], []),
        (["more"], MORE, BAD),
        (["more", "b.png", "more/c.gif", "./b.png"], ["./b.png", *MORE], BAD),
        (["*"], ["a", "b.png", *MORE, "odd[1].bmp", "odd[2]/e.png"], BAD),
        (["**/*.webp"], ["more/deep/d.webp"], []),
        (["*/*.png", "a"], ["a", "odd[2]/e.png"], BAD),
        (["odd[1].bmp", "odd[2]"], ["odd[1].bmp", "odd[2]/e.png"], []),
        ([".hidden.png"], [".hidden.png"], []),
        # As a shell puts in the place of a glob.
        (["a", "notes.txt", "b.png"], ["a", "b.png"], [f"notes.txt: {NOT_AN_IMAGE}"]),
        (["a", "more/bad.png"], ["a"], BAD),
    ],
)
def test_find_images(folder, patterns, expected, skipped):
    assert find_images(patterns) == (expected, skipped)
    found, lines = find_images([folder / pattern for pattern in patterns])
    assert {os.path.relpath(path, folder) for path in found} == set(map(os.path.normpath, expected))
    assert len(lines) == len(skipped)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["nothing.png"], "There is no such file or folder as 'nothing.png'"),
        (["a", "*.tif"], r"There is no such file or folder as '\*.tif'"),
        (["a", "empty"], "There is no image in 'empty'"),
        (["a", "*.txt"], r"There is no image in '\*.txt'"),
        (["notes.txt"], "None of the images can be read, the first is notes.txt: not a JPEG, PNG"),
        (["more/bad.png"], "None of the images can be read, the first is more/bad.png: not a"),
    ],
)
def test_nothing_is_found(folder, patterns, message):
    with pytest.raises(DataError, match=f"^{message}.*[.]$"):
        find_images(patterns)


def test_links_out_of_a_folder(folder, tmp_path_factory):
    outside = save_image(tmp_path_factory.mktemp("outside") / "x.png", 9)
    (folder / "more" / "link.png").symlink_to(outside)
    (folder / "link.png").symlink_to(outside)
    found, skipped = find_images(["more", "link.png"])
    assert found == ["link.png", *MORE]
    assert skipped[0] == "more/link.png: a symbolic link that leads outside the data folder"
