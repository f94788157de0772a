import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_cbam.training.devices import validate_distribution

BACKEND = keras.backend.backend()
DISTRIBUTE = {"tensorflow": "mirrored", "jax": "data_parallel"}.get(BACKEND)


def start(output, devices, *distributions, **environment):
    command = [sys.executable, "-m", "tests.training.distributed", output, devices, *distributions]
    return subprocess.Popen(
        [*map(str, command)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]


def result(output, distribute=DISTRIBUTE, process=0):
    """Weights and history that a process has written."""
    with np.load(output.with_suffix(f".{distribute}.{process}.npz")) as arrays:
        weights = dict(arrays)
    return weights, json.loads(output.with_suffix(f".{distribute}.{process}.json").read_text())


def assert_close(ours, theirs, except_for=()):
    assert ours[0].keys() == theirs[0].keys()
    for found, expected in zip(ours, theirs):
        for name in found.keys() - set(except_for):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """What a process of two devices has written, which has trained on one of them too."""
    output = tmp_path_factory.mktemp("two_devices") / "run"
    finish(start(output, 2, "none", DISTRIBUTE))
    return output


@pytest.mark.slow
@pytest.mark.skipif(DISTRIBUTE is None, reason="PyTorch has no distribution in Keras")
def test_two_devices_end_with_the_weights_of_one(two_devices):
    ours, alone = result(two_devices), result(two_devices, "none")
    statistics = [name for name in ours[0] if "moving" in name]
    # A batch is one on all devices of JAX; each device of TensorFlow normalizes its own images.
    assert_close(ours, alone, () if BACKEND == "jax" else statistics)
    differences = [np.abs(ours[0][name] - alone[0][name]).max() for name in statistics]
    assert len(differences) == 2
    assert (max(differences) > 1e-4) == (BACKEND == "tensorflow")


@pytest.mark.skipif(BACKEND != "jax", reason="several processes are for JAX")
def test_two_processes_end_with_the_weights_of_one(two_devices, tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    processes = [
        start(
            tmp_path / "run",
            1,
            DISTRIBUTE,
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(process),
        )
        for process in range(2)
    ]
    finish(*processes)
    for process in range(2):
        ours = result(tmp_path / "run", process=process)
        assert_close(ours, result(two_devices, "none"))


@pytest.mark.parametrize(
    ("distribute", "message"),
    [
        ("miror", r"must be one of .*Received: distribute='miror'"),
        *(
            (name, f"set the environment variable KERAS_BACKEND={backend}")
            for name, backend in (("mirrored", "tensorflow"), ("data_parallel", "jax"))
            if backend != BACKEND
        ),
    ],
)
def test_wrong_distributions(distribute, message):
    with pytest.raises(ValueError, match=message):
        validate_distribution(distribute, 8)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the devices of TensorFlow")
def test_batch_must_be_divisible(monkeypatch):
    import tensorflow as tf

    device = tf.config.list_logical_devices("CPU")[0]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [device] * 3)
    with pytest.raises(ValueError, match=r"multiple of the 3 devices.*Received: batch_size=8"):
        validate_distribution("mirrored", 8)
    validate_distribution("mirrored", 9)
    validate_distribution(None, 8)
