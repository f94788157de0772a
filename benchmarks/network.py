"""Time of a training step and of inference: a network plain, with CBAM, with a port, with SE.

    python benchmarks/network.py [--models ResNet50 MobileNetV2] [--modes graph xla] [--json FILE]

TensorFlow, or `KERAS_BACKEND=jax` (mode "xla" only). For each model and mode the four networks run
in turn in one process; printed are median milliseconds and how much more than plain each takes.
"""

import argparse
import gc
import json
import pathlib
import sys

import keras
import numpy as np
from comparison import Port, interleaved, machine

from keras_cbam import find_sites, insert_attention

CLASSES = 1000
VARIANTS = ("plain", "ours", "port", "se")


def network(name, variant, size, policy):
    """The network with random weights, and its attention as the paper has it: no identity."""
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES
    )
    attention = {"ours": "cbam", "se": "se", "port": lambda site: Port()}.get(variant)
    if attention is None:
        return model
    return insert_attention(model, attention, start_as_identity=False)


def measure(name, mode, options):
    """Milliseconds of each network's training step and inference."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(options.batch, options.size, options.size, 3)).astype("float32")
    y = generator.integers(0, CLASSES, options.batch)
    steps, inferences = {}, {}
    for variant in VARIANTS:
        model = network(name, variant, options.size, options.policy)
        model.compile(
            keras.optimizers.SGD(1e-3, momentum=0.9),
            "sparse_categorical_crossentropy",
            jit_compile=mode == "xla",
        )
        steps[variant] = lambda model=model: model.train_on_batch(x, y)
        inferences[variant] = lambda model=model: model.predict_on_batch(x)
    times = {
        "training step": interleaved(steps, options.rounds),
        "inference": interleaved(inferences, options.rounds),
    }
    return {"model": name, "mode": mode, "sites": len(find_sites(model)), **times}


def print_row(row):
    for what in ("training step", "inference"):
        times = row[what]
        cells = ", ".join(
            f"{variant} {times[variant]:.0f} ({times[variant] / times['plain'] - 1:+.1%})"
            for variant in VARIANTS[1:]
        )
        print(
            f"{row['model']} {row['mode']}, {what}, ms: plain {times['plain']:.0f}, {cells}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ResNet50", "MobileNetV2"])
    parser.add_argument("--modes", nargs="+", default=["graph", "xla"], choices=["graph", "xla"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--policy", default="float32", help="dtype policy")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    if keras.backend.backend() != "tensorflow":
        options.modes = ["xla"]
    print(
        f"{machine()}; batch {options.batch}, {options.size} pixels, {options.policy}", flush=True
    )
    rows = []
    for name in options.models:
        for mode in options.modes:
            rows.append(measure(name, mode, options))
            print_row(rows[-1])
            keras.backend.clear_session()
            gc.collect()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
