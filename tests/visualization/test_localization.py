import numpy as np
import pytest

from keras_cbam.visualization.localization import area_share, energy_inside, pointing_game

BOXES = [[[0.0, 0.0, 0.5, 0.25]], [[0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.25, 0.25]]]


def test_a_loop_over_the_positions():
    maps = np.random.default_rng(0).uniform(size=(2, 4, 8))
    inside, area, hits = [], [], []
    for one, boxes in zip(maps, BOXES):
        mask = np.zeros_like(one, bool)
        for row in range(4):
            for column in range(8):
                x, y = (column + 0.5) / 8, (row + 0.5) / 4
                mask[row, column] = any(a <= x <= c and b <= y <= d for a, b, c, d in boxes)
        inside.append(one[mask].sum() / one.sum())
        area.append(mask.mean())
        hits.append(mask[np.unravel_index(one.argmax(), one.shape)])
    np.testing.assert_allclose(energy_inside(maps, BOXES), inside)
    np.testing.assert_allclose(area_share(maps, BOXES), area)
    assert pointing_game(maps, BOXES) == np.mean(hits)


def test_without_structure_the_energy_is_the_area():
    maps = np.full((2, 4, 8), 3.0)
    np.testing.assert_allclose(energy_inside(maps, BOXES), area_share(maps, BOXES))
    np.testing.assert_allclose(area_share(maps, BOXES), [4 / 32, 10 / 32])


def test_the_highest_point():
    maps = np.zeros((2, 4, 8))
    maps[0, 0, 3] = maps[1, 0, 7] = 1
    assert pointing_game(maps, BOXES) == 0.5
    maps[1, 0, 0] = 2
    assert pointing_game(maps, BOXES) == 1


def test_masks_and_one_box():
    maps = np.random.default_rng(0).uniform(size=(1, 4, 8))
    mask = np.zeros((1, 4, 8), bool)
    mask[0, :1, :4] = True
    for function in (energy_inside, area_share, pointing_game):
        np.testing.assert_array_equal(function(maps, mask), function(maps, [BOXES[0][0]]))


def test_a_map_of_zeros_has_no_share():
    assert np.isnan(energy_inside(np.zeros((2, 4, 8)), BOXES)).all()


@pytest.mark.parametrize(
    ("maps", "boxes", "sentence"),
    [
        (np.ones((4, 8)), BOXES, "must be finite, of shape"),
        (np.full((2, 4, 8), np.nan), BOXES, "must be finite, of shape"),
        (np.ones((2, 4, 8)), BOXES[:1], "boxes for each of the 2 maps"),
        (np.ones((2, 4, 8)), [[0, 0, 20, 20]] * 2, "must be parts of the image's size"),
        (-np.ones((2, 4, 8)), BOXES, "must not be negative"),
    ],
)
def test_bad_input(maps, boxes, sentence):
    with pytest.raises(ValueError, match=sentence):
        energy_inside(maps, boxes)
