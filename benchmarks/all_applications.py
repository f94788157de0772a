"""Insertion into every model of keras.applications, checked and timed; a table of what it costs.

    python benchmarks/all_applications.py [NAME ...] [--output FILE]

Each model is checked in a process of its own, with random weights at the smallest images that it
takes. What is done stands in the output file, a line of JSON a model, and is not done again. The
exit code is 1 if a check fails.

The checks: outputs before and after insertion, in inference and in training mode; after removal;
after a `.keras` round trip; of the SavedModel; one `fit` step under XLA and one in mixed_float16;
time and memory of the insertion beside those of `keras.models.clone_model`.
"""

import argparse
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import keras
import numpy as np

from keras_cbam import insert_attention, remove_attention
from keras_cbam.applications import application_cost, application_names

# Less work for the compiler: the steps are checked here, not timed.
COMPILER = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
SMALLEST = {"Inception": 75, "Xception": 71}
CLASSES = 10
# Largest differences of the outputs, as probabilities or features; 1e-6 is for reordered sums.
TOLERANCES = {
    "inference": 1e-6,
    "training": 1e-6,
    "removed": 0.0,
    "source_untouched": 0.0,
    "keras_file": 1e-6,
    "saved_model": 1e-5,
}
COLUMNS = (*TOLERANCES, "sites", "seconds", "without_identity", "xla_step", "float16_step")
# What each stage of the checks writes.
DONE = {
    "costs": ["sites"],
    "insertion": ["seconds"],
    "outputs": ["without_identity", "saved_model"],
    "steps": ["xla_step", "float16_step"],
}
STAGES = tuple(DONE)


class PeakMemory:
    """The growth of this process's resident memory within a `with` block, in bytes."""

    def __enter__(self):
        gc.collect()
        self.start = self.peak = self._resident()
        self.is_running = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_running = False
        self.thread.join()
        self.growth = self.peak - self.start

    def _watch(self):
        while self.is_running:
            self.peak = max(self.peak, self._resident())
            time.sleep(0.002)

    @staticmethod
    def _resident():
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def timed(function, *arguments, clock=time.perf_counter):
    start = clock()
    result = function(*arguments)
    return clock() - start, result


def costs(name):
    """Sites, parameters and multiply-adds, plain and with attention, at the size of the weights."""
    cost = application_cost(name)
    return {
        "sites": len(cost["sites"]),
        "image_size": cost["image_size"],
        **{
            key: [cost[which][key] for which in ("plain", "with_attention")]
            for key in ("parameters", "multiply_adds")
        },
    }


def small_model(name):
    """The model with random weights for small images, and two images."""
    size = next((size for start, size in SMALLEST.items() if name.startswith(start)), 32)
    arguments = {"weights": None, "input_shape": (size, size, 3), "classes": CLASSES}
    if name.startswith("NASNet"):
        # With a classifier it takes 331 or 224 pixels.
        arguments = {**arguments, "include_top": False, "pooling": "avg"}
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(**arguments)
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (2, size, size, 3)).astype("float32")
    if not any(isinstance(layer, keras.layers.Rescaling) for layer in model._flatten_layers()):
        images = images / 127.5 - 1
    return model, images


def enliven(model, images):
    """Weights with which every layer shows in the outputs.

    The initial ones send deep networks to constant outputs, which could not differ.
    """
    generator = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    for layer in model._flatten_layers():
        # That of EfficientNet: mean, variance and count.
        if isinstance(layer, keras.layers.Normalization) and len(layer.weights) == 3:
            mean, variance, count = layer.get_weights()
            layer.set_weights([mean + 0.3, variance * 0.4, count])
            layer.finalize_state()
    # The statistics of the images, of which nothing is dropped.
    kinds = {keras.layers.BatchNormalization: "momentum", keras.layers.Dropout: "rate"}
    changed = [
        (layer, name, getattr(layer, name))
        for layer in model._flatten_layers()
        for kind, name in kinds.items()
        if isinstance(layer, kind)
    ]
    for layer, name, _ in changed:
        setattr(layer, name, 0.0)
    model(images, training=True)
    for layer, name, value in changed:
        setattr(layer, name, value)


def insertion_cost(model):
    """Time and memory of an insertion and of `clone_model`."""
    size = sum(weight.nbytes for weight in model.get_weights())
    seconds, growth = {"clone": [], "insert": []}, {}
    for _ in range(3):
        for kind, function in (("clone", keras.models.clone_model), ("insert", insert_attention)):
            gc.collect()
            with PeakMemory() as memory:
                # Processor time, which other work on the machine does not change.
                duration, result = timed(function, model, clock=time.process_time)
            seconds[kind].append(duration)
            # The first is the one that cannot take memory that an earlier one gave back.
            growth.setdefault(kind, memory.growth)
            del result
    return {
        "seconds": {kind: statistics.median(values) for kind, values in seconds.items()},
        "memory_over_weights": {kind: value / size for kind, value in growth.items()},
        "weights_megabytes": size / 1e6,
    }


def output_differences(model, images):
    """Outputs with attention beside those without; the model must be `enliven`ed."""

    def run(model, **options):
        return keras.ops.convert_to_numpy(model(images, **options))

    row = {}
    weights = [weight.copy() for weight in model.get_weights()]
    with_attention = insert_attention(model)
    row["shares_variables"] = bool(
        {id(v) for v in model.variables} & {id(v) for v in with_attention.variables}
    )
    before = run(model)
    row["inference"] = difference(run(with_attention), before)
    row["removed"] = difference(run(remove_attention(with_attention)), before)
    row["training"] = difference(run(with_attention, training=True), run(model, training=True))
    # The statistics that the training mode changed.
    for variable, value in zip(model.weights, weights):
        variable.assign(value)
    with_attention = insert_attention(model, start_as_identity=False)
    after = run(with_attention)
    row["without_identity"] = difference(after, before)
    with tempfile.TemporaryDirectory() as folder:
        with_attention.save(f"{folder}/model.keras")
        row["keras_file"] = difference(run(keras.models.load_model(f"{folder}/model.keras")), after)
        row["saved_model"] = difference(serve(with_attention, f"{folder}/model", images), after)
    for variable in with_attention.variables:
        variable.assign(keras.ops.zeros_like(variable))
    row["source_untouched"] = difference(run(model), before)
    return row


def check(name, stages):
    """The row of one model."""
    row = {"model": name}
    if "costs" in stages:
        row.update(costs(name))
    if "insertion" in stages:
        row.update(insertion_cost(small_model(name)[0]))
    if "outputs" in stages:
        model, images = small_model(name)
        enliven(model, images)
        row.update(output_differences(model, images))
        del model
    gc.collect()
    if "steps" in stages:
        model, images = small_model(name)
        row["xla_step"] = fit_step(insert_attention(model), images, jit_compile=True)
        del model
        gc.collect()
        keras.config.set_dtype_policy("mixed_float16")
        model, images = small_model(name)
        row["float16_step"] = fit_step(insert_attention(model), images, run_eagerly=True)
    return row


def difference(ours, theirs):
    if not np.isfinite(ours).all():
        raise ValueError("The outputs are not finite.")
    return float(np.max(np.abs(ours.astype("float64") - theirs)))


def serve(model, path, images):
    import tensorflow as tf

    # What `model.export` does, except the gradients of custom functions, a third of its time.
    archive = keras.export.ExportArchive()
    signature = [tf.TensorSpec((None, *images.shape[1:]), "float32")]
    archive.track_and_add_endpoint("serve", model, input_signature=signature)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(path, options=options, verbose=False)
    loaded = tf.saved_model.load(path)
    return loaded.serve(images).numpy()


def fit_step(model, images, **options):
    """The loss of one step; an error if it or a weight is not finite afterwards."""
    model.compile(keras.optimizers.SGD(1e-3), "mse", **options)
    targets = np.zeros((len(images), model.output_shape[-1]), "float32")
    loss = model.fit(images, targets, batch_size=len(images), verbose=0).history["loss"][0]
    if not all(np.isfinite(array).all() for array in [loss, *model.get_weights()]):
        raise ValueError(f"A step of fit gives values that are not finite. Received: {options}")
    return loss


def failures(row):
    """What is wrong with a row."""
    if "error" in row:
        return [row["error"]]
    missing = [key for key in COLUMNS if key not in row]
    if missing:
        return [f"not done: {', '.join(missing)}"]
    wrong = [
        f"{key} differs by {row[key]:.1e}" for key, most in TOLERANCES.items() if row[key] > most
    ]
    if row["without_identity"] < 1e-4:
        wrong.append("the outputs do not show whether there is attention")
    if row["shares_variables"]:
        wrong.append("shares variables")
    if row["seconds"]["insert"] > 2 * row["seconds"]["clone"]:
        wrong.append("slower than twice clone_model")
    if row["memory_over_weights"]["insert"] > 2:
        wrong.append("takes more than twice the memory of the weights")
    return wrong


def in_a_process(name, stages):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": COMPILER}
    process = subprocess.run(
        [sys.executable, __file__, name, "--child", "--stages", *stages],
        env=environment,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return {"model": name, "error": reason}
    return json.loads(process.stdout.splitlines()[-1])


def print_tables(rows):
    print("\n| model | sites | parameters | with CBAM | multiply-adds | with CBAM |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        if "sites" in row:
            parameters = " | ".join(f"{value:,}" for value in row["parameters"])
            products = " | ".join(f"{value / 1e9:.3f} G" for value in row["multiply_adds"])
            print(f"| {row['model']} | {row['sites']} | {parameters} | {products} |")
    print(
        "\n| model | inference | training | removed | .keras | SavedModel | loss, XLA | "
        "loss, float16 | insert / clone, s | memory / weights | fails |"
    )
    print("|---" * 11 + "|")
    for row in rows:
        if "error" in row:
            print(f"| {row['model']} |{' |' * 9} {row['error']} |")
            continue
        if any(key not in row for key in COLUMNS):
            continue
        keys = ("inference", "training", "removed", "keras_file", "saved_model")
        differences = " | ".join(f"{row[key]:.0e}" if row[key] else "0" for key in keys)
        seconds, memory = row["seconds"], row["memory_over_weights"]
        print(
            f"| {row['model']} | {differences} | {row['xla_step']:.3g} | {row['float16_step']:.3g} "
            f"| {seconds['insert']:.2f} / {seconds['clone']:.2f} "
            f"| {memory['insert']:.2f} | {'; '.join(failures(row)) or 'none'} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="by default all models")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--output", type=pathlib.Path, default="all_applications.jsonl")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(check(options.names[0], options.stages)))
        return 0
    names = options.names or application_names()
    # Later lines complete or replace what earlier ones say of a model.
    rows = {name: {"model": name} for name in names}
    if options.output.exists():
        for line in options.output.read_text().splitlines():
            row = json.loads(line)
            if row["model"] in rows:
                rows[row["model"]].pop("error", None)
                rows[row["model"]].update(row)
    for name in names:
        stages = [stage for stage in options.stages if not set(DONE[stage]) <= rows[name].keys()]
        if stages:
            duration, row = timed(in_a_process, name, stages)
            rows[name].pop("error", None)
            rows[name].update(row)
            with open(options.output, "a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{name}: {duration:.0f} s, {'; '.join(failures(rows[name])) or 'ok'}", flush=True
            )
    print_tables(rows.values())
    return int(any(failures(row) for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
