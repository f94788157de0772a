"""Whether the training step or the input pipeline is the bottleneck, in images a second.

`python benchmarks/input.py [--images 256] [--steps 8] [--rounds 5]` makes JPEG images of the
size of ImageNet's, and prints for each way of reading: the pipeline alone, training on it, and
training on one batch that is in memory.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np
from comparison import default_classifier, machine
from PIL import Image

from keras_cbam.data import load_data, reading, training_batches
from keras_cbam.models import ResNet50
from keras_cbam.training.precision import jit_compile

WIDTH, HEIGHT = 500, 375
CLASSES = 4


def make_folder(folder, images):
    """JPEG images with the sizes of ImageNet's, in sides and in bytes (about 110 kB)."""
    generator = np.random.default_rng(0)
    for index in range(images):
        coarse = generator.integers(0, 256, (24, 32, 3), dtype="uint8")
        image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        noise = generator.normal(0, 14, (HEIGHT, WIDTH, 3))
        pixels = np.clip(np.asarray(image) + noise, 0, 255).astype("uint8")
        path = folder / f"class{index % CLASSES}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(name, epoch, model, batch_size, steps, rounds):
    """Prints the line of one way of reading; `epoch(number)` gives the batches of an epoch."""
    import tensorflow as tf

    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=jit_compile(False))
    batch = next(iter(epoch(0)))
    # Of any size, as those that are read: other steps than of a known size.
    constant = tf.data.Dataset.from_tensor_slices(batch).batch(batch_size).cache().repeat(steps)
    numbers = iter(range(10**6))

    def read():
        for _ in epoch(next(numbers)).take(steps):
            pass

    def train(dataset):
        model.fit(dataset, shuffle=False, verbose=0)

    ways = {
        "read": read,
        "step": lambda: train(constant),
        "both": lambda: train(epoch(next(numbers)).take(steps)),
    }
    for way in ways.values():
        way()
    times = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            times[way].append(seconds(function))
    rates = {way: steps * batch_size / statistics.median(values) for way, values in times.items()}
    ratio, lost = rates["read"] / rates["step"], 100 * (rates["step"] / rates["both"] - 1)
    print(
        f"{name:44} {rates['read']:>10.0f} {rates['step']:>10.1f} {rates['both']:>10.1f} "
        f"{ratio:>8.1f} {lost:>+8.1f} %",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rest = options.steps, options.rounds
    print(machine())
    print(
        f"{'images a second':44} {'read':>10} {'step':>10} {'both':>10} {'ratio':>8} {'lost':>10}"
    )
    small = default_classifier()
    part = load_data(None, 32).train
    measure(
        "arrays, 32 pixels, MobileNet x0.5",
        lambda epoch: training_batches(part, 128, 0, epoch),
        small,
        128,
        *rest,
    )
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = scratch / "images"
        make_folder(folder, options.images)
        files = load_data(folder, 224).train
        batch_size = 8
        model = ResNet50(attention="cbam", num_classes=CLASSES)
        for augment in ("flip", "crop"):
            kind = "kept in memory" if augment == "flip" else "random crops"
            with reading(files.images):
                measure(
                    f"JPEG files, {kind} of 224, ResNet50",
                    lambda epoch, augment=augment: training_batches(
                        files, batch_size, 0, epoch, augment
                    ),
                    model,
                    batch_size,
                    *rest,
                )


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
