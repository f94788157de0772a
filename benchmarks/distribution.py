"""How a training grows with devices: steps a second on 1, 2, ... at the same batch.

`python benchmarks/distribution.py [--devices 1 2] [--batch 64] [--rounds 3]`, with
KERAS_BACKEND=tensorflow (`MirroredStrategy`) or jax (`DataParallel`). Without so many GPUs it takes
logical devices of the CPU, which share its cores: that shows what sharing costs, and no gain.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys


def train(devices, batch_size, steps):
    """Runs in a process of its own; prints the seconds of an epoch of so many steps."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    import time

    import tensorflow as tf

    gpus, cpu = tf.config.list_physical_devices("GPU"), tf.config.list_physical_devices("CPU")[0]
    if not gpus:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
    else:
        tf.config.set_visible_devices(gpus[:devices], "GPU")
    import keras
    import numpy as np
    from comparison import default_classifier

    from keras_cbam.data import load_data, training_batches
    from keras_cbam.training.devices import distributed, find_devices

    backend = keras.backend.backend()
    distribute = None
    if devices > 1:
        distribute = {"tensorflow": "mirrored", "jax": "data_parallel"}[backend]
    data = load_data(None, 32)
    part = data.train.select(np.arange(steps * batch_size))
    with distributed(distribute):
        model = default_classifier()
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=backend == "jax")
        times = []
        for epoch in range(4):
            start = time.perf_counter()
            model.fit(
                training_batches(
                    part, batch_size, seed=0, epoch=epoch, devices=find_devices(distribute)
                ),
                verbose=0,
                shuffle=False,
            )
            times.append(time.perf_counter() - start)
    # The first epoch compiles.
    print(json.dumps(statistics.median(times[1:])))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        train(options.one, options.batch, options.steps)
        return
    seconds = {devices: [] for devices in options.devices}
    for _ in range(options.rounds):
        for devices, found in seconds.items():
            process = subprocess.run(
                [
                    *(sys.executable, __file__, f"--one={devices}"),
                    *(f"--batch={options.batch}", f"--steps={options.steps}"),
                ],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            found.append(json.loads(process.stdout.splitlines()[-1]))
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(f"{backend}, {os.cpu_count()} CPU cores, MobileNet x0.5 with CBAM, 32 pixels")
    first = None
    for devices, found in seconds.items():
        rate = options.steps / statistics.median(found)
        first = first or rate
        print(
            f"{devices} devices, batch {options.batch}: {rate:.2f} steps/s, "
            f"{rate * options.batch:.0f} images/s, {rate / first:.2f} of the first"
        )


if __name__ == "__main__":
    main()
