"""A training of a detector that takes seconds."""

from keras_cbam.detection import task, train_detector
from keras_cbam.detection.models.base import Detector
from tests.detection.networks import tiny_detector

# Three steps an epoch, the last with half a batch.
TINY = {"image_size": 32, "epochs": 2, "batch_size": 4, "train_scenes": 10, "test_scenes": 6}


def patch(monkeypatch):
    monkeypatch.setattr(task, "build_detector", tiny_detector)
    compiled = Detector.compile

    def compile_eagerly(self, optimizer, jit_compile):
        compiled(self, optimizer, run_eagerly=True)

    # A few steps take less time than their graph.
    monkeypatch.setattr(Detector, "compile", compile_eagerly)


def train_tiny(**given):
    if "resume" not in given:
        given = {**TINY, **given}
    return train_detector(**{"verbose": 0, **given})
