"""Time of one CBAM layer, beside the usual Keras port and a PyTorch module.

    python benchmarks/layer.py [--shapes 16x56x56x64 ...] [--dtypes float32 ...] [--json FILE]

For each backend that is installed (TensorFlow, JAX) a process of its own; within it all runs are
interleaved and the medians printed: milliseconds forward (with TensorFlow as in training, what the
gradient needs included), forward and backward, and in inference; then what reading and copying the
tensor takes on this machine, and the ratios of ours to the port, each at the best of its modes (a
graph, or compiled by XLA). On a GPU add `--batch 128`: the bytes a second are those of the least
traffic that the formula allows.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

SHAPES = (
    "16x56x56x64",
    "16x56x56x256",
    "16x28x28x512",
    "16x14x14x1024",
    "16x7x7x2048",
    "16x1024x256",
    "4x8x28x28x64",
)
RESNET = SHAPES[:5]
MEASURES = ("forward", "forward_backward", "inference")
# Reads and writes of the tensor that the formula cannot do without.
LEAST_TRAFFIC = {"forward": 4, "forward_backward": 10, "inference": 4}


def make_step(layer, x, upstream, measure, mode):
    """A function without arguments that computes and waits."""
    import keras

    training = {"training": measure != "inference"} if type(layer).__name__ == "CBAM" else {}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        def compute(x, upstream):
            if measure == "inference":
                return layer(x, **training)
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = layer(x, **training)
            if measure == "forward":
                return outputs
            sources = [x, *(weight.value for weight in layer.trainable_weights)]
            # The outputs too: without them a compiler would not compute what no gradient needs.
            return outputs, tape.gradient(outputs, sources, upstream)

        step = tf.function(compute, jit_compile=mode == "xla", autograph=False)

        def run():
            # Reading one number waits for a GPU.
            first = tf.nest.flatten(step(x, upstream))[0]
            float(tf.cast(first[(0,) * len(first.shape)], tf.float32))

        return run
    import jax

    def outputs(x, weights):
        return layer.stateless_call(weights, [], x, **training)[0]

    def compute(x, upstream, weights):
        if measure != "forward_backward":
            return outputs(x, weights)
        values, gradient = jax.vjp(outputs, x, weights)
        return values, gradient(upstream)

    step = jax.jit(compute)
    weights = [weight.value for weight in layer.trainable_weights]
    return lambda: jax.block_until_ready(step(x, upstream, weights))


def make_limits(x):
    """Reading and copying the tensor, each by one operation."""
    import keras
    from keras import ops

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        read = tf.function(lambda: ops.max(x), jit_compile=True, autograph=False)
        copy = tf.function(lambda: -x, jit_compile=True, autograph=False)
        # Reading one number waits for a GPU.
        return {"read": lambda: float(read()), "copy": lambda: float(copy()[(0,) * len(x.shape)])}
    import jax

    read, copy = jax.jit(ops.max), jax.jit(lambda x: -x)
    return {
        "read": lambda: jax.block_until_ready(read(x)),
        "copy": lambda: jax.block_until_ready(copy(x)),
    }


def make_torch_step(shape, dtype, measure):
    import torch
    from comparison import torch_twin

    twin = torch_twin(shape[-1]).to(getattr(torch, dtype))
    x, upstream = (
        torch.randn(shape[0], shape[-1], *shape[1:-1], dtype=getattr(torch, dtype)).contiguous(
            memory_format=torch.channels_last
        )
        for _ in range(2)
    )

    def run():
        if measure == "forward_backward":
            inputs = x.detach().requires_grad_()
            twin(inputs).backward(upstream)
        elif measure == "forward":
            twin(x)
        else:
            with torch.inference_mode():
                twin(x)

    return run


def measure_shape(shape, dtype, rounds):
    """Milliseconds of every implementation, mode and measure for one shape."""
    import keras
    import numpy as np
    from comparison import Port, has_torch, interleaved, is_cpu
    from keras import ops

    from keras_cbam import CBAM

    is_tensorflow = keras.backend.backend() == "tensorflow"
    policy = "float32" if dtype == "float32" else f"mixed_{dtype}"
    generator = np.random.default_rng(0)
    x, upstream = (
        ops.cast(generator.normal(size=shape).astype("float32"), dtype) for _ in range(2)
    )
    results = {"limits": interleaved(make_limits(x), rounds)}
    for measure in MEASURES:
        functions = {}
        for name, layer_class in (("port", Port), ("ours", CBAM)):
            layer = layer_class(dtype=policy)
            layer.build(shape)
            for mode in ("graph", "xla") if is_tensorflow else ("jit",):
                functions[f"{name} {mode}"] = make_step(layer, x, upstream, measure, mode)
        if is_tensorflow and has_torch() and len(shape) == 4 and is_cpu():
            functions["torch eager"] = make_torch_step(shape, dtype, measure)
        results[measure] = interleaved(functions, rounds)
        best = {
            name: min(value for key, value in results[measure].items() if key.startswith(name))
            for name in ("port", "ours")
        }
        results[measure]["ratio"] = best["ours"] / best["port"]
        size = math.prod(shape) * {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
        gigabytes = LEAST_TRAFFIC[measure] * size / 1e9
        results[measure]["gigabytes_per_second"] = gigabytes / (best["ours"] / 1e3)
    copied = 2 * math.prod(shape) * (4 if dtype == "float32" else 2) / 1e9
    results["limits"]["copy_gigabytes_per_second"] = copied / (results["limits"]["copy"] / 1e3)
    return results


def measure_backend(options):
    """In the process of one backend: a line of JSON for each shape and dtype."""
    from comparison import machine

    print(json.dumps({"machine": machine()}), flush=True)
    for dtype in options.dtypes:
        for text in options.shapes:
            shape = tuple(map(int, text.split("x")))
            if options.batch:
                shape = (options.batch, *shape[1:])
            row = {"shape": "x".join(map(str, shape)), "dtype": dtype}
            print(json.dumps({**row, **measure_shape(shape, dtype, options.rounds)}), flush=True)


def print_row(row):
    limits = row["limits"]
    print(
        f"\n{row['backend']} {row['shape']} {row['dtype']}: read {limits['read']:.2f} ms, "
        f"copy {limits['copy']:.2f} ms ({limits['copy_gigabytes_per_second']:.1f} GB/s)"
    )
    for measure in MEASURES:
        values = dict(row[measure])
        ratio, rate = values.pop("ratio"), values.pop("gigabytes_per_second")
        cells = "  ".join(f"{name} {value:7.2f}" for name, value in values.items())
        print(f"  {measure:17s} {cells}  ours/port {ratio:.2f}  {rate:.1f} GB/s", flush=True)


def print_means(rows):
    for backend, dtype in dict.fromkeys((row["backend"], row["dtype"]) for row in rows):
        chosen = [row for row in rows if (row["backend"], row["dtype"]) == (backend, dtype)]
        resnet = [r for r in chosen if r["shape"].split("x", 1)[1] in {s[3:] for s in RESNET}]
        for name, group in (("ResNet-50's shapes", resnet), ("all shapes", chosen)):
            if group:
                means = [
                    math.exp(sum(math.log(row[m]["ratio"]) for row in group) / len(group))
                    for m in MEASURES
                ]
                text = ", ".join(f"{m} {value:.2f}" for m, value in zip(MEASURES, means))
                print(f"{backend} {dtype}, geometric mean of ours/port, {name}: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="NxHxWxC")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, help="instead of the shapes' own batch")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        measure_backend(options)
        return
    rows = []
    for backend in options.backends:
        if importlib.util.find_spec(backend) is None:
            print(f"{backend} is not installed: left out")
            continue
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, __file__, *sys.argv[1:], "--in-process"]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            for line in process.stdout:
                row = {"backend": backend, **json.loads(line)}
                if "machine" in row:
                    print(f"\n{row['machine']}")
                    continue
                rows.append(row)
                print_row(row)
            if process.wait():
                errors.seek(0)
                sys.exit(f"{backend} failed:\n{errors.read()[-3000:]}")
    print()
    print_means(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
