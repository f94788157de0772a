import pytest

from keras_cbam.errors import DataError
from keras_cbam.visualization.figure_files import figure_names, refuse_to_lose_files


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/cat.jpg", "b/Cat.png"], ["cat_seen.png", "Cat_seen_2.png"]),
        (["a b$.jpg", "猫.png"], ["a_b__seen.png", "猫_seen.png"]),
        (["x" * 200 + ".png"], ["x" * 50 + "_seen.png"]),
        (["line\nend.png"], ["line_nend_seen.png"]),
    ],
)
def test_names(paths, names):
    assert figure_names(paths, "seen") == names


def test_files_that_would_be_lost(tmp_path):
    image, other = tmp_path / "a.png", tmp_path / "b.png"
    refuse_to_lose_files([image, other], [], overwrite=False)
    image.touch()
    with pytest.raises(FileExistsError, match=r"a\.png' exists already.*pass --overwrite"):
        refuse_to_lose_files([other, image], [], overwrite=False)
    refuse_to_lose_files([other, image], [], overwrite=True)
    other.symlink_to(image)
    with pytest.raises(DataError, match=r"b\.png' would replace one of the images"):
        refuse_to_lose_files([other], [str(image)], overwrite=True)
    with pytest.raises(NotADirectoryError, match=r"a\.png' is a file, not a folder"):
        refuse_to_lose_files([image / "c.png"], [], overwrite=True)
