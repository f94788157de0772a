import numpy as np
import pytest

from keras_cbam.training.evaluation import classification_report


def test_report_of_a_class_without_pictures():
    report = classification_report(
        np.array([0, 0, 2]), np.eye(3)[[0, 1, 2]], ["empty below", "none", "right"]
    )
    assert report["accuracy"] == pytest.approx(2 / 3)
    assert report["per_class_recall"] == {"empty below": 0.5, "none": None, "right": 1.0}
    assert report["confusion_matrix"] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
