import pytest

from keras_cbam.detection import DetectionTask
from keras_cbam.training import trainer
from tests.detection import tiny


@pytest.fixture
def tiny_detectors(monkeypatch):
    """Within the test, `train_detector` trains a tiny network, and neither draws nor checks it."""
    tiny.patch(monkeypatch)
    monkeypatch.setattr(DetectionTask, "artefacts", lambda *_: {})
    monkeypatch.setattr(trainer, "check_reloaded", lambda *_: {})


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of the tiny network on scenes, for all tests that need some trained detector."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.patch(patch)
        return tiny.train_tiny(output=tmp_path_factory.mktemp("detection") / "run")
