"""Run as a fresh process: trains on several devices and writes the weights.

`python -m tests.training.distributed OUTPUT DEVICES DISTRIBUTE...`, with none for one device; a
further process of the same training is told so by the environment, see
`keras.distribution.initialize`.
"""

import json
import os
import pathlib
import sys


def main(output, devices, *distributions):
    devices = int(devices)
    # Before the backend is loaded.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * devices
    )
    import keras
    import numpy as np

    from keras_cbam import ChannelAttention
    from keras_cbam.classification import task

    def classifier(*_, num_classes, **__):
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(4, 3, strides=4)(keras.layers.Rescaling(1 / 127.5, -1)(inputs))
        # Its statistics are seen, but change nothing else.
        x += 0.0 * keras.layers.BatchNormalization(momentum=0.5)(x)
        x = ChannelAttention(reduction_ratio=2, start_as_identity=True)(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax")(x))

    task.attention_classifier = classifier
    labels = np.arange(70) % 2
    images = np.random.default_rng(0).integers(0, 200, (70, 32, 32, 3))
    images += 40 * labels[:, None, None, None]
    output = pathlib.Path(output)
    data = output.with_suffix(f".{os.getpid()}.npz")
    np.savez(data, x=images.astype("uint8"), y=labels)
    rank = os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", "0")
    for distribute in distributions:
        run = task.train_classifier(
            data=data,
            # Built by the function above.
            backbone="MobileNet",
            epochs=2,
            batch_size=16,
            learning_rate=0.05,
            distribute=None if distribute == "none" else distribute,
            verbose=0,
        )
        names = [f"{index} {weight.name}" for index, weight in enumerate(run.model.weights)]
        weights = dict(zip(names, run.model.get_weights()))
        np.savez(output.with_suffix(f".{distribute}.{rank}.npz"), **weights)
        output.with_suffix(f".{distribute}.{rank}.json").write_text(json.dumps(run.history))
    data.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
