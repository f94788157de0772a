import numpy as np
import pytest
from PIL import Image

from keras_cbam.detection.data import augmentation
from keras_cbam.detection.data.augmentation import BRIGHTNESS, CROP_IOUS, MEAN_PIXEL


def augmented(image, boxes, size, generator, kind="flip_crop_color", short_side=None):
    return augmentation.augmented(kind, image, boxes, size, short_side, generator)


class Fixed:
    """In the place of a generator: the numbers that are drawn, each in [0, 1)."""

    def __init__(self, flip=0.9, scale=0.0, left=0.0, top=0.0, light=0.5):
        self.singles, self.pair, self.uniforms = flip, np.array([left, top]), [light, scale]

    def random(self, size=None):
        return self.singles if size is None else self.pair

    def uniform(self, low, high):
        return low + (high - low) * self.uniforms.pop()


ONE = 1 - 1e-9
SIZE = 48


def reference(box, width, height, size, flip, scale, left, top):
    """Where a box is, from the formula: flipped, magnified, shifted and cut."""
    x0, y0, x1, y1 = box
    if flip < 0.5:
        x0, x1 = width - x1, width - x0
    longer = round(size * (0.75 + (4 / 3 - 0.75) * scale))
    new_width, new_height = (round(side * longer / max(width, height)) for side in (width, height))
    sides = (new_width, new_height)
    shift = [int(max(side - size, 0) * part) for side, part in zip(sides, (left, top))]
    edges = [
        edge * new / old - own
        for edge, new, old, own in (
            (x0, new_width, width, shift[0]),
            (y0, new_height, height, shift[1]),
            (x1, new_width, width, shift[0]),
            (y1, new_height, height, shift[1]),
        )
    ]
    cut = np.clip(edges, 0, size)
    whole, part = ((e[2] - e[0]) * (e[3] - e[1]) for e in (edges, cut))
    return cut, part >= whole / 4 and min(cut[2] - cut[0], cut[3] - cut[1]) >= 2


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 40), (48, 48), (200, 90)])
def test_boxes_are_those_of_the_formula(width, height):
    generator = np.random.default_rng(0)
    image = Image.new("RGB", (width, height))
    seen = set()
    for _ in range(60):
        corner = generator.uniform(0, 0.8, 2) * (width, height)
        end = np.minimum(corner + generator.uniform(1, 0.5 * height, 2), (width, height))
        boxes = np.concatenate([corner, end])[None].astype("float32")
        flip, scale, left, top = generator.random(4)
        fixed = Fixed(flip, scale, left, top)
        _, (found,), (is_left,) = augmented(image, boxes, SIZE, fixed)
        expected, is_expected = reference(boxes[0], width, height, SIZE, flip, scale, left, top)
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert is_left == is_expected
        seen.add(is_expected)
    assert seen == {True, False}


def marked(box, size=64):
    pixels = np.zeros((size, size, 3), "uint8")
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


def test_boxes_enclose_what_they_did():
    """A white rectangle on black: where it is after augmentation is where its box must be."""
    box = (8, 30, 24, 50)
    lefts, lights = set(), set()
    for seed in range(64):
        generator = np.random.default_rng(seed)
        pixels, (found,), (is_left,) = augmented(
            marked(box), np.array([box], "float32"), 64, generator
        )
        assert (pixels.shape, pixels.dtype) == ((64, 64, 3), np.uint8)
        bright = pixels[..., 0] > 127
        lights.add(int(pixels.max()))
        if not is_left:
            # Less than a quarter of it is left.
            assert bright.sum() < 0.25 * 20 * 16 * 16 / 9 + 16
            continue
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(found, edges, atol=1.01)
        lefts.add(int(found[0]))
    assert min(lefts) < 16 < 32 < max(lefts)
    assert len(lights) > 10


def test_what_is_drawn():
    """Half of the images are flipped; magnification and brightness fill their ranges evenly."""
    image = np.full((80, 80, 3), 60, "uint8")
    image[:, :40] = 200
    image, generator = Image.fromarray(image), np.random.default_rng(0)
    flips, scales, lights = [], [], []
    for _ in range(1000):
        pixels, *_ = augmented(image, np.zeros((0, 4), "float32"), 80, generator)
        corner = int(pixels[0, 0, 0])
        flips.append(corner < 130)
        lights.append(corner - (60 if flips[-1] else 200))
        scales.append((pixels[:, 0, 0] == corner).mean())
    assert np.mean(flips) == pytest.approx(0.5, abs=0.05)
    assert (min(lights), max(lights)) == (-32, 32)
    assert np.mean(lights) == pytest.approx(0, abs=2)
    assert np.std(lights) == pytest.approx(64 / 12**0.5, rel=0.05)
    smaller = [scale for scale in scales if scale < 1]
    assert min(smaller) == 0.75
    # Of the range of 7 / 12, 3 / 12 are below 1.
    assert len(smaller) / 1000 == pytest.approx(3 / 7, abs=0.05)
    assert np.mean(smaller) == pytest.approx(0.875, abs=0.02)


def test_slivers_are_dropped():
    # Magnified by 4/3 and cut at the left and top: 30 pixels are lost on the right.
    boxes = np.array([[66, 0, 90, 20], [60, 0, 75, 20], [0, 0, 1, 50]], "float32")
    image = Image.new("RGB", (90, 90))
    _, found, is_left = augmented(image, boxes, 90, Fixed(scale=ONE))
    assert is_left.tolist() == [False, True, False]
    np.testing.assert_allclose(found[1], [80, 0, 90, 80 / 3], rtol=1e-5)


def test_no_boxes():
    boxes = np.zeros((0, 4), "float32")
    _, found, is_left = augmented(Image.new("RGB", (9, 9)), boxes, 9, np.random.default_rng(0))
    assert (found.shape, is_left.shape) == ((0, 4), (0,))


def test_neutral_numbers_change_nothing():
    image = marked((8, 30, 24, 50))
    neutral = (1 - 0.75) / (4 / 3 - 0.75)
    pixels, found, _ = augmented(
        image, np.array([[8, 30, 24, 50]], "float32"), 64, Fixed(scale=neutral)
    )
    np.testing.assert_array_equal(pixels, np.asarray(image))
    assert found.tolist() == [[8, 30, 24, 50]]
    flipped, found, _ = augmented(
        image, np.array([[8, 30, 24, 50]], "float32"), 64, Fixed(flip=0.1, scale=neutral)
    )
    np.testing.assert_array_equal(flipped, np.asarray(image)[:, ::-1])
    assert found.tolist() == [[40, 30, 56, 50]]


@pytest.mark.parametrize(("light", "expected"), [(0.0, 8), (ONE, 72)])
def test_brightness(light, expected):
    image = Image.fromarray(np.full((9, 9, 3), 40, "uint8"))
    pixels, *_ = augmented(image, np.zeros((0, 4), "float32"), 9, Fixed(scale=ONE, light=light))
    assert (pixels == expected).all()
    assert BRIGHTNESS == (-32.0, 32.0)


BOX = (12, 20, 28, 44)


def outcomes(kind, count=400, size=64):
    """Of an image that is white in its box and grey elsewhere: pixels, boxes, which are left."""
    pixels = np.full((64, 64, 3), 90, "uint8")
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    image, boxes = Image.fromarray(pixels), np.array([BOX, (0, 0, 6, 6)], "float32")
    for seed in range(count):
        yield augmented(image, boxes, size, np.random.default_rng(seed), kind)


def test_flip_does_no_more_than_that():
    flips = []
    for pixels, boxes, is_left in outcomes("flip", 100):
        flips.append(boxes[0, 0] != BOX[0])
        assert boxes[0].tolist() == ([36, 20, 52, 44] if flips[-1] else list(BOX))
        assert (pixels[20:44, int(boxes[0, 0]) : int(boxes[0, 2])] == 255).all()
        assert is_left.all()
    assert 35 < sum(flips) < 65


def test_boxes_enclose_what_they_did_in_ssd(monkeypatch):
    monkeypatch.setattr(augmentation, "_recoloured", lambda image, _: image)
    kinds, areas = set(), []
    for pixels, boxes, is_left in outcomes("ssd"):
        assert (pixels.shape, pixels.dtype, boxes.dtype) == ((64, 64, 3), np.uint8, np.float32)
        assert is_left.any()
        kinds.add(tuple(is_left.tolist()))
        areas.append((boxes[0, 2:] - boxes[0, :2]).prod())
        if is_left[0] and (boxes[0, 2:] - boxes[0, :2]).min() > 4:
            bright = pixels[..., 0] > 172
            rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
            edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            np.testing.assert_allclose(boxes[0], edges, atol=1.5)
    assert kinds == {(True, True), (True, False), (False, True)}
    # Zoomed out to a sixteenth, and cut to a multiple.
    assert min(areas) < 16 * 24 / 8 < 16 * 24 * 3 < max(areas)


def test_half_of_the_canvases_are_larger_up_to_four_times():
    found = [augmentation._zoomed_out(40, 30, np.random.default_rng(i)) for i in range(2000)]
    sides = np.array([window[2:] - window[:2] for window in found])
    assert np.mean(sides[:, 0] == 40) == pytest.approx(0.5, abs=0.05)
    assert 150 < sides[:, 0].max() <= 160
    for left, top, right, bottom in found:
        assert left <= 0 <= 40 <= right
        assert top <= 0 <= 30 <= bottom


def test_what_is_cut_has_the_overlap_that_was_drawn(monkeypatch):
    """The sides are of 1 to 2 at most; each overlap is drawn equally often."""
    window, box = np.array([0, 0, 100, 80]), np.array([[30, 20, 70, 60]], "float32")
    for least in CROP_IOUS:
        monkeypatch.setattr(augmentation, "CROP_IOUS", (least, 1.0))
        cuts = [
            augmentation._iou_crop(window, box, np.random.default_rng(seed)) for seed in range(60)
        ]
        for cut in cuts:
            if cut.tolist() == window.tolist():
                continue
            sides = cut[2:] - cut[:2]
            assert max(sides) <= 2 * min(sides)
            assert (cut[:2] < 50).all()
            common = np.minimum(cut[2:], box[0, 2:]) - np.maximum(cut[:2], box[0, :2])
            common = common.prod()
            assert common / (sides.prod() + 1600 - common) >= least
        is_whole = [cut.tolist() == window.tolist() for cut in cuts]
        assert 10 < sum(is_whole) <= 60
        # Others are seldom found.
        assert all(is_whole) if least == 1 else least > 0.5 or not all(is_whole)


def test_the_canvas_has_the_mean_pixel():
    part = augmentation._cut(Image.new("RGB", (4, 4)), np.array([-3, 1, 6, 5]))
    pixels = np.asarray(part)
    assert pixels.shape == (4, 9, 3)
    assert (pixels[:3, 3:7] == 0).all()
    assert (pixels[3] == MEAN_PIXEL).all()
    assert (pixels[:, :3] == MEAN_PIXEL).all()


def test_colours_change_for_half():
    image = Image.new("RGB", (2, 2), (200, 100, 50))
    found = [
        np.asarray(augmentation._recoloured(image, np.random.default_rng(i)))[0, 0].astype(int)
        for i in range(400)
    ]
    same = [each.tolist() == [200, 100, 50] for each in found]
    # With those whose change is rounded away.
    assert 1 / 8 - 0.05 < np.mean(same) < 1 / 8 + 0.1
    spans = [each.max() - each.min() for each in found]
    assert min(spans) < 80 < 200 < max(spans)


@pytest.mark.parametrize("kind", ["ssd", "flip", "none"])
def test_images_without_boxes(kind):
    boxes = np.zeros((0, 4), "float32")
    for seed in range(20):
        image, generator = Image.new("RGB", (1, 9)), np.random.default_rng(seed)
        pixels, found, is_left = augmented(image, boxes, 9, generator, kind)
        assert (pixels.shape, found.shape, is_left.shape) == ((9, 9, 3), (0, 4), (0,))
