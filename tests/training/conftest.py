import signal

import pytest

from keras_cbam.training import trainer
from tests.training.toy_task import train_toy


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run that was not disturbed, and that is never changed."""
    return train_toy(output=tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture(autouse=True)
def no_fresh_process(monkeypatch):
    """The check after a training takes seconds: `finished` has had it, and those that test it."""
    monkeypatch.setattr(trainer, "check_reloaded", lambda *_: {})


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT as in a terminal: a shell starts what it runs in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
