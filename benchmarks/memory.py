"""Memory of a training step: a network plain, with CBAM and with the usual port.

    python benchmarks/memory.py [--model ResNet50] [--batch 8] [--json FILE]

Under XLA, the bytes that it allots for temporaries in the compiled step: exact, and the same in
every run. In TensorFlow's graph, the peak of the process's resident memory over three steps. Each
network has a process of its own.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

VARIANTS = ("plain", "ours", "port")


def temporaries_of_jax(model, x, y):
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


def temporaries_of_tensorflow(model, x, y):
    """Bytes, from what XLA writes of the largest program: TensorFlow does not return its analysis.

    XLA reads its flags when TensorFlow is first imported.
    """
    model.train_on_batch(x, y)
    folder = pathlib.Path(re.search(r"xla_dump_to=(\S+)", os.environ["XLA_FLAGS"])[1])
    sizes = [0]
    for path in folder.glob("*buffer-assignment.txt"):
        found = re.findall(r"allocation \d+: size (\d+), preallocated-temp", path.read_text())
        sizes.append(sum(map(int, found)))
    return max(sizes)


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
    if options.mode == "graph":
        found = peak(model, x, y)
    elif keras.backend.backend() == "jax":
        found = temporaries_of_jax(model, x, y)
    else:
        found = temporaries_of_tensorflow(model, x, y)
    print(json.dumps({"bytes": found}))


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
        what = "temporaries" if mode == "xla" else "peak of resident memory"
        sizes = {}
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as folder:
                flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
                flags = {"XLA_FLAGS": flags} if (backend, mode) == ("tensorflow", "xla") else {}
                run = subprocess.run(
                    [sys.executable, __file__, *sys.argv[1:], "--variant", variant, "--mode", mode],
                    env={**os.environ, **flags, "KERAS_BACKEND": backend},
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
