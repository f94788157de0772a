"""Whether the training step or the input pipeline is the bottleneck, in pictures a second.

`python benchmarks/input.py [--pictures 256] [--steps 8] [--rounds 5]` makes JPEG pictures of the
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

from keras_cbam.data.batches import training_batches
from keras_cbam.data.imagenet import find_test_files
from keras_cbam.data.load import load_data
from keras_cbam.data.streaming import picture_streams
from keras_cbam.models import ResNet50
from keras_cbam.training.arguments import jit_compile

WIDTH, HEIGHT = 500, 375
CLASSES = 4


def make_folder(folder, pictures):
    """JPEG pictures with the sizes of ImageNet's, in sides and in bytes (about 110 kB)."""
    generator = np.random.default_rng(0)
    for index in range(pictures):
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
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rest = options.steps, options.rounds
    print(machine())
    print(
        f"{'pictures a second':44} {'read':>10} {'step':>10} {'both':>10} {'ratio':>8} {'lost':>10}"
    )
    small = default_classifier()
    data_set = load_data(None, 32)

    def arrays(data_set, batch_size):
        return lambda epoch: training_batches(
            data_set.train_images, data_set.train_labels, batch_size, 0, epoch, flip=True
        )

    measure("arrays, 32 pixels, MobileNet x0.5", arrays(data_set, 128), small, 128, *rest)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = scratch / "pictures"
        make_folder(folder, options.pictures)
        cache = {"cache": scratch / "cache"}
        first = seconds(lambda: load_data(folder, 224, **cache))
        again = seconds(lambda: load_data(folder, 224, **cache))
        data_set = load_data(folder, 224, **cache)
        model = ResNet50(attention="cbam", num_classes=CLASSES)
        batch_size = 8
        measure(
            "cache on the disk, 224 pixels, ResNet50", arrays(data_set, batch_size), model, 8, *rest
        )
        files, _ = find_test_files(str(folder))
        with picture_streams(224) as streams:
            measure(
                "JPEG files, random crops of 224, ResNet50",
                lambda epoch: streams.training(files, batch_size, 0, epoch),
                model,
                batch_size,
                *rest,
            )
        size = statistics.mean(path.stat().st_size for path in folder.rglob("*.jpg"))
    print(
        f"{options.pictures} JPEG pictures of {WIDTH} x {HEIGHT}, {size / 1e3:.0f} kB: "
        f"{first:.1f} s to fill the cache, {again:.2f} s to find it again."
    )


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
