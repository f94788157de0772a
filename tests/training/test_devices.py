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


def start(output, devices, distribute, **environment):
    command = [sys.executable, "-m", "tests.training.distributed", output, devices, distribute]
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


def result(output, process=0):
    """Weights and history that a process has written."""
    with np.load(output.with_suffix(f".{process}.npz")) as arrays:
        weights = dict(arrays)
    return weights, json.loads(output.with_suffix(f".{process}.json").read_text())


def assert_close(ours, theirs, except_for=()):
    assert ours[0].keys() == theirs[0].keys()
    for found, expected in zip(ours, theirs):
        for name in found.keys() - set(except_for):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "run"
    finish(start(output, 1, "none"))
    return result(output)


@pytest.mark.skipif(DISTRIBUTE is None, reason="PyTorch has no distribution in Keras")
def test_two_devices_end_with_the_weights_of_one(alone, tmp_path):
    finish(start(tmp_path / "run", 2, DISTRIBUTE))
    ours = result(tmp_path / "run")
    statistics = [name for name in ours[0] if "moving" in name]
    # A batch is one on all devices of JAX; each device of TensorFlow normalizes its own images.
    assert_close(ours, alone, () if BACKEND == "jax" else statistics)
    differences = [np.abs(ours[0][name] - alone[0][name]).max() for name in statistics]
    assert len(differences) == 2
    assert (max(differences) > 1e-4) == (BACKEND == "tensorflow")


@pytest.mark.skipif(BACKEND != "jax", reason="several processes are for JAX")
def test_two_processes_end_with_the_weights_of_one(alone, tmp_path):
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
        assert_close(result(tmp_path / "run", process), alone)


@pytest.mark.parametrize(
    ("distribute", "message"),
    [
        ("miror", r"must be None or one of .*Received: distribute='miror'"),
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
