import numpy as np
import pytest
from keras import ops

from keras_cbam.detection.ops.roi_align import level_of, roi_align


def reference(feature, box, stride, size, samples):
    """The value of a position is at its center; samples outside take the edge."""
    height, width, channels = feature.shape
    result = np.zeros((size, size, channels))
    for row in range(size):
        for column in range(size):
            values = []
            for i in range(samples):
                for j in range(samples):
                    share = (np.array([row, column]) + (np.array([i, j]) + 0.5) / samples) / size
                    y = (box[1] + share[0] * (box[3] - box[1])) / stride - 0.5
                    x = (box[0] + share[1] * (box[2] - box[0])) / stride - 0.5
                    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
                    low_y, low_x = int(y), int(x)
                    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
                    dy, dx = y - low_y, x - low_x
                    values.append(
                        feature[low_y, low_x] * (1 - dy) * (1 - dx)
                        + feature[low_y, high_x] * (1 - dy) * dx
                        + feature[high_y, low_x] * dy * (1 - dx)
                        + feature[high_y, high_x] * dy * dx
                    )
            result[row, column] = np.mean(values, axis=0)
    return result


@pytest.mark.parametrize(("size", "samples"), [(3, 2), (2, 1)])
def test_regions_are_the_reference(size, samples):
    generator = np.random.default_rng(0)
    features = [
        generator.normal(size=(2, 256 // stride, 128 // stride, 5)).astype("float32")
        for stride in (4, 8)
    ]
    boxes = np.array(
        [
            [[0, 0, 128, 256], [1, 2, 9, 11], [-1, -1, -1, -1]],
            [[80, 160, 160, 270], [5, 5, 6, 6], [10, 10, 120, 240]],
        ],
        "float32",
    )
    levels = ops.convert_to_numpy(level_of(ops.convert_to_tensor(boxes), (4, 8)))
    assert set(levels.ravel().tolist()) == {0, 1}
    tensors = [ops.convert_to_tensor(feature) for feature in features]
    found = ops.convert_to_numpy(roi_align(tensors, boxes, (4, 8), size, samples))
    for image in range(2):
        for box in range(3):
            level = levels[image, box]
            expected = reference(
                features[level][image], boxes[image, box], (4, 8)[level], size, samples
            )
            np.testing.assert_allclose(found[image, box], expected, atol=1e-5)


def test_levels_by_size():
    boxes = [[0, 0, size, size] for size in (448, 447, 224, 111, 1)]
    levels = level_of(ops.convert_to_tensor(boxes, dtype="float32"), (4, 8, 16, 32))
    assert ops.convert_to_numpy(levels).tolist() == [3, 2, 2, 0, 0]
