"""The ablations of the CBAM paper (tables 1 to 3) on the embedded clothing pictures.

    python benchmarks/ablation.py [--output FILE] [--picture FILE.png] [--variants NAME ...]

A ResNet18 with CIFAR's stem and an eighth of the channels, 3,000 pictures of 32 x 32 to train on
and 1,000 to test on, several seeds; mean and deviation of the accuracy as a table and as bars. What
is done stands in the output file, a line of JSON a run, and is not done again.
"""

import argparse
import dataclasses
import pathlib
import sys
import time

import keras
import numpy as np
from matplotlib.figure import Figure
from resumed import mean_and_deviation, run_missing

from keras_cbam.classification import fit_classifier
from keras_cbam.cost import count_parameters
from keras_cbam.data import load_data
from keras_cbam.models import ResNet18

IMAGE_SIZE = 32
WIDTH = 0.125
TRAINING_IMAGES = 3000


def cbam(**config):
    return {"class_name": "cbam", "config": {"use_batch_norm": True, **config}}


# Table of the paper, and attention.
VARIANTS = {
    "no attention": (1, None),
    "channel: avg (SE)": (1, cbam(arrangement="channel", pooling="avg")),
    "channel: max": (1, cbam(arrangement="channel", pooling="max")),
    "channel: avg and max": (1, cbam(arrangement="channel")),
    "channel, then spatial: conv, 3x3": (2, cbam(spatial_pooling="conv", kernel_size=3)),
    "channel, then spatial: conv, 7x7": (2, cbam(spatial_pooling="conv", kernel_size=7)),
    "channel, then spatial: avg and max, 3x3": (2, cbam(kernel_size=3)),
    "channel, then spatial: avg and max, 7x7 (CBAM)": (2, cbam()),
    "spatial, then channel": (3, cbam(arrangement="spatial_channel")),
    "channel and spatial in parallel": (3, cbam(arrangement="parallel")),
}


def run(variant, seed, options):
    """Accuracy on the test pictures after every epoch, of one network and seed."""
    start = time.perf_counter()
    data = load_data(None, IMAGE_SIZE, seed=0)
    data = dataclasses.replace(data, train=data.train.select(np.arange(TRAINING_IMAGES)))
    keras.utils.set_random_seed(seed)
    model = ResNet18(
        attention=VARIANTS[variant][1],
        width=WIDTH,
        stem="cifar",
        num_classes=len(data.class_names),
        input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
    )
    history = fit_classifier(
        model,
        data,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        # Shoes and bags of the set all look one way.
        augment="none",
        seed=seed,
        verbose=0,
    )
    return {
        "accuracy": history["val_accuracy"],
        "parameters": count_parameters(model),
        "seconds": round(time.perf_counter() - start),
    }


def accuracies(rows, variant):
    return [row["accuracy"][-1] for row in rows if row["variant"] == variant]


def print_table(rows, options):
    print(
        f"\n{options.epochs} epochs, batches of {options.batch_size}, {len(options.seeds)} seeds\n"
        "\n| paper's table | attention | accuracy, mean | deviation | seeds |"
        "\n|---|---|---|---|---|"
    )
    for variant in options.variants:
        values = accuracies(rows, variant)
        each = ", ".join(f"{value:.3f}" for value in values)
        mean, deviation = mean_and_deviation(values)
        print(f"| {VARIANTS[variant][0]} | {variant} | {mean:.4f} | {deviation:.4f} | {each} |")


def draw(rows, options):
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axis = figure.subplots()
    values = [accuracies(rows, variant) for variant in options.variants]
    means, deviations = zip(*map(mean_and_deviation, values), strict=True)
    axis.barh(
        options.variants,
        means,
        xerr=deviations,
        color=["#999999" if VARIANTS[name][1] is None else "#0072B2" for name in options.variants],
        ecolor="black",
        capsize=3,
    )
    for position, each in enumerate(values):
        axis.plot(each, [position] * len(each), "o", color="#E69F00", markersize=3)
    lowest, highest = min(map(min, values)), max(map(max, values))
    margin = max(highest - lowest, 0.01)
    axis.set_xlim(lowest - margin, highest + 0.3 * margin)
    axis.invert_yaxis()
    axis.set(
        xlabel="Test accuracy (bar: mean; line: one standard deviation; dots: seeds)",
        title=f"ResNet18 x {WIDTH}, {TRAINING_IMAGES:,} pictures, {options.epochs} epochs",
    )
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(options.picture, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=pathlib.Path, default="ablation.jsonl")
    parser.add_argument("--picture", type=pathlib.Path, default="ablation.png")
    options = parser.parse_args()
    rows = run_missing(
        options,
        ("epochs", "batch_size", "learning_rate"),
        [{"variant": variant} for variant in options.variants],
        lambda case, seed: run(case["variant"], seed, options),
    )
    print_table(rows, options)
    draw(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
