import gc

import pytest

from keras_cbam.training import check, trainer
from tests.training.toy_task import check_in_this_process, train_toy


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run that was not disturbed, and that is never changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "run_module", check_in_this_process)
        return train_toy(output=tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture(autouse=True)
def no_fresh_process(monkeypatch):
    """The check after a training takes time: `finished` has had it, and those that test it."""
    monkeypatch.setattr(trainer, "check_reloaded", lambda *_: {})


@pytest.fixture(scope="session", autouse=True)
def frozen_libraries():
    """What the libraries hold is not searched for garbage by `little_garbage`."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def little_garbage():
    """Freed all at once, the graphs of many trainings can take TensorFlow ten seconds."""
    yield
    gc.collect()
