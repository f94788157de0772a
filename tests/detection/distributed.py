"""Run as a fresh process: a step of a detector on two devices, and of half the batch on one.

Both halves are the same, so the losses and gradients are the same, where they are averaged.
"""

import json

import tensorflow as tf

DEVICES = ("CPU:0", "CPU:1")


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration() for _ in DEVICES]
    )
    import keras
    import numpy as np

    from tests.detection.networks import BOXES, IMAGES, tiny_detector

    found = []
    for strategy, copies in (
        (tf.distribute.MirroredStrategy(DEVICES), 2),
        (tf.distribute.get_strategy(), 1),
    ):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            model = tiny_detector("ssd", 2, 64, "small", "cbam")
            model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        batch = (IMAGES, BOXES)
        images, boxes = keras.tree.map_structure(
            lambda x, count=copies: np.concatenate([x] * count), batch
        )
        history = model.fit(images, boxes, batch_size=len(images), shuffle=False, verbose=0).history
        found.append((history["loss"][0], model.get_weights()))
    (loss, weights), (expected_loss, expected) = found
    differences = [float(np.abs(one - other).max()) for one, other in zip(weights, expected)]
    print(json.dumps({"losses": [loss, expected_loss], "difference": max(differences)}))


if __name__ == "__main__":
    main()
