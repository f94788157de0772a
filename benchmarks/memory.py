"""Memory of a training step: a network plain, with CBAM and with the usual port.

    python benchmarks/memory.py [--model ResNet50] [--batch 8] [--json FILE]

With JAX, the bytes that XLA allots for temporaries in the compiled step: exact, and the same in
every run. With TensorFlow, the peak of the process's resident memory over three steps in a graph
and compiled by XLA, each network in a process of its own.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import resource
import subprocess
import sys

VARIANTS = ("plain", "ours", "port")


def temporaries(model, x, y):
    """Bytes, from XLA's own analysis of the compiled step."""
    import jax
    from keras import ops

    loss_function = model.loss

    def loss(trainable, fixed, x, y):
        outputs, fixed = model.stateless_call(trainable, fixed, x, training=True)
        return ops.mean(loss_function(y, outputs)), fixed

    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    analysis = step.lower(trainable, fixed, x, y).compile().memory_analysis()
    return analysis.temp_size_in_bytes


def peak(model, x, y):
    """Bytes of the process at its largest."""
    for _ in range(3):
        model.train_on_batch(x, y)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(options):
    """One network in this process: prints the bytes."""
    import keras
    import numpy as np
    from network import CLASSES, network

    shape = (options.batch, options.size, options.size, 3)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=shape).astype("float32"), generator.integers(0, CLASSES, shape[0])
    model = network(options.model, options.variant, options.size, "float32")
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(),
        jit_compile=options.mode == "xla",
    )
    is_jax = keras.backend.backend() == "jax"
    print(json.dumps({"bytes": (temporaries if is_jax else peak)(model, x, y)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ResNet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        measure(options)
        return
    print(f"{options.model}, batch {options.batch}, {options.size} pixels, float32")
    results = {}
    for backend, mode in (("jax", "xla"), ("tensorflow", "xla"), ("tensorflow", "graph")):
        if importlib.util.find_spec(backend) is None:
            print(f"{backend} is not installed: left out")
            continue
        what = "temporaries" if backend == "jax" else "peak of resident memory"
        sizes = {}
        for variant in VARIANTS:
            run = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--variant", variant, "--mode", mode],
                env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode:
                sys.exit(f"{backend} {mode} {variant} failed:\n{run.stderr[-3000:]}")
            sizes[variant] = json.loads(run.stdout.splitlines()[-1])["bytes"]
        results[f"{backend} {mode}"] = sizes
        extra = {variant: sizes[variant] - sizes["plain"] for variant in VARIANTS}
        cells = ", ".join(f"{v} {sizes[v] / 2**20:.0f} ({extra[v] / 2**20:+.0f})" for v in VARIANTS)
        print(f"{backend} {mode}, {what}, MiB (more than plain): {cells}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
