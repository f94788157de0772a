import numpy as np
import pytest
from keras import ops

from keras_cbam.detection import SSD, build_detector
from keras_cbam.detection.ops.anchors import box_step, default_boxes
from keras_cbam.detection.ops.boxes import clip_boxes, decode_boxes, encode_boxes
from tests.detection.detector_checks import backbone


def random_boxes(generator, count, size=300.0):
    corners = np.sort(generator.uniform(0, size, (count, 2, 2)), axis=1)
    corners[:, 1] += 1
    return corners.reshape(count, 4).astype("float32")


def test_encoding_is_the_formula():
    boxes, anchors = np.array([[10.0, 20.0, 50.0, 40.0]]), np.array([[0.0, 0.0, 20.0, 20.0]])
    expected = [(30 - 10) / 20, (30 - 10) / 20, np.log(40 / 20), np.log(20 / 20)]
    expected = np.array([expected]) / [0.1, 0.1, 0.2, 0.2]
    np.testing.assert_allclose(encode_boxes(boxes, anchors), expected, rtol=1e-5)


def test_decoding_is_the_inverse():
    generator = np.random.default_rng(0)
    boxes, anchors = random_boxes(generator, 500), random_boxes(generator, 500)
    sizes = (boxes[:, 2:] - boxes[:, :2]) / (anchors[:, 2:] - anchors[:, :2])
    boxes, anchors = boxes[sizes.max(axis=1) < 60], anchors[sizes.max(axis=1) < 60]
    decoded = decode_boxes(encode_boxes(boxes, anchors), anchors)
    np.testing.assert_allclose(decoded, boxes, atol=1e-4 * 300, rtol=0)
    offsets = generator.normal(size=(500, 4)).astype("float32")
    anchors = random_boxes(generator, 500)
    again = encode_boxes(decode_boxes(offsets, anchors), anchors)
    wide = (anchors[:, 2:] - anchors[:, :2]).min(axis=1) > 10
    np.testing.assert_allclose(np.asarray(again)[wide], offsets[wide], atol=1e-3)


def test_wild_offsets_stay_finite():
    decoded = decode_boxes(np.full((1, 4), 1e4, "float32"), np.array([[0.0, 0.0, 10.0, 10.0]]))
    assert np.isfinite(np.asarray(decoded)).all()
    padding = encode_boxes(np.full((1, 4), -1.0, "float32"), np.array([[0.0, 0.0, 10.0, 10.0]]))
    assert np.isfinite(np.asarray(padding)).all()


def test_clipping():
    clipped = clip_boxes(ops.convert_to_tensor([[-5.0, 2.0, 70.0, 90.0]]), height=40, width=60)
    np.testing.assert_array_equal(clipped, [[0.0, 2.0, 60.0, 40.0]])


def test_default_boxes_of_ssd300():
    """Table 2's and the text's numbers: 8732 boxes, the first levels' sizes 30, 60 and 111."""
    scales = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
    ratios = [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]
    sizes = [(n, n) for n in (38, 19, 10, 5, 3, 1)]
    boxes = default_boxes((300, 300), sizes, scales, ratios)
    assert boxes.shape == (8732, 4)
    counts = [4, 6, 6, 6, 4, 4]
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    root = np.sqrt(2)
    np.testing.assert_allclose(widths[:4], [30, np.sqrt(30 * 60), 30 * root, 30 / root], rtol=1e-5)
    np.testing.assert_allclose(heights[:4], [30, np.sqrt(30 * 60), 30 / root, 30 * root], rtol=1e-5)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    starts = np.cumsum([0] + [n * n * count for (n, _), count in zip(sizes, counts)])
    # The authors' table of steps, for 300 pixels.
    for start, (n, _), own, step in zip(starts, sizes, counts, (8, 16, 32, 64, 100, 300)):
        np.testing.assert_allclose(centers[start], step / 2, rtol=1e-5)
        across = (np.arange(n) + 0.5) * step
        row = centers[start : start + n * own : own, 0]
        np.testing.assert_allclose(row, across, rtol=1e-5)
    np.testing.assert_allclose(boxes[-4], [150 - 132, 150 - 132, 150 + 132, 150 + 132], rtol=1e-5)


def test_default_boxes_of_a_wide_image():
    boxes = default_boxes((50, 100), [(1, 2)], (0.2, 0.4), [()])
    assert boxes.shape == (4, 4)
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2, [25, 25, 75, 75])
    np.testing.assert_allclose(boxes[0, 2] - boxes[0, 0], 10)


def test_steps_of_other_sizes():
    """SSD512's are the authors' as well; images of 96 pixels are divided evenly by all."""
    positions = (64, 32, 16, 8, 4, 2, 1)
    assert [box_step(512, n) for n in positions] == [8, 16, 32, 64, 128, 256, 512]
    assert [box_step(96, n) for n in (12, 6, 3, 2, 1)] == [8, 16, 32, 48, 96]
    assert box_step(300, 38, "even") == 300 / 38
    # Networks without padding round down.
    assert [box_step(300, n) for n in (37, 18, 9)] == [8, 16, 32]
    assert [box_step(100, n) for n in (12, 6)] == [8, 16]


@pytest.mark.parametrize("size", [100, 300])
def test_default_boxes_are_inside_the_image(size):
    boxes = build_detector("ssd", 2, size, "mobilenet", attention=None).default_boxes
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Of the authors' own too, the last of a feature map may lie half a step outside.
    assert centers.max() < size + 32
    assert (centers > size).any(axis=1).mean() < 0.1


def test_an_earlier_file_keeps_its_steps():
    model = SSD(backbone((3, 4), input_shape=(72, 72, 3)), 2, extra_filters=())
    config = model.get_config()
    assert config.pop("steps") == "authors"
    earlier = SSD.from_config(config)
    assert earlier.steps == "even"
    assert not np.allclose(earlier.default_boxes, model.default_boxes)
