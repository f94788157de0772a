import signal

import keras
import pytest


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT as in a terminal: a shell starts what it runs in the background without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def dtype_policy():
    """Sets the global dtype policy for one test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="module")
def short_turns():
    """Exported artefacts are timed for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_cbam.serving.agreement._TURN_SECONDS", 0.01)
        yield
