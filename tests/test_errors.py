import pytest

from keras_cbam.errors import listed, near_names


@pytest.mark.parametrize("names", [["ResNet50", "ResNet50V2"], ["ResNet50V2", "ResNet50"]])
def test_the_nearest_name_comes_first(names):
    assert near_names("resnet50v", names) == "Did you mean 'ResNet50V2' or 'ResNet50'?"


def test_names_of_which_none_is_near():
    assert near_names("nothing like it", ["cbam", "se"]) == "Known: 'cbam', 'se'."


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed(map(str, range(150))).endswith(", 38, 39 and 110 more")


def test_names_that_differ_in_case_only():
    assert near_names("conv", ["conv1", "Conv1"]) == "Did you mean 'conv1' or 'Conv1'?"
