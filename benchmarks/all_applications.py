"""Insertion into every model of keras.applications, checked and timed; a table of what it costs.

    python benchmarks/all_applications.py [NAME ...] [--output FILE]

Each model is checked in a process of its own, with random weights at the smallest pictures that it
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

# Less work for the compiler: the steps are checked here, not timed.
COMPILER = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
SMALLEST = {"Inception": 75, "Xception": 71}
CLASSES = 10


def smallest_size(name):
    return next((size for start, size in SMALLEST.items() if name.startswith(start)), 32)


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


def check(name):
    """The row of one model."""
    import keras
    import numpy as np

    from keras_cbam import find_sites, insert_attention, remove_attention
    from keras_cbam.cost import count_multiply_adds, count_parameters

    application = getattr(keras.applications, name)
    row = {"model": name}

    model = application(weights=None)
    attended = insert_attention(model)
    row["sites"] = len(find_sites(model))
    row["parameters"] = [count_parameters(model), count_parameters(attended)]
    size = next(size for size in (model.input_shape[1], 224) if size)
    row["multiply_adds"] = [count_multiply_adds(m, (size, size, 3)) for m in (model, attended)]
    row["picture_size"] = size
    del model, attended
    gc.collect()

    size = smallest_size(name)
    arguments = {"weights": None, "input_shape": (size, size, 3), "classes": CLASSES}
    if name.startswith("NASNet"):
        # With a classifier it takes 331 or 224 pixels.
        arguments = {**arguments, "include_top": False, "pooling": "avg"}
    keras.utils.set_random_seed(0)
    model = application(**arguments)
    weights = [weight.copy() for weight in model.get_weights()]
    size_in_bytes = sum(weight.nbytes for weight in weights)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    if not any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers):
        pictures = pictures / 127.5 - 1

    def run(model, **options):
        return keras.ops.convert_to_numpy(model(pictures, **options))

    seconds = {"clone": [], "insert": []}
    growth = {}
    while len(seconds["insert"]) < 3 and sum(map(sum, seconds.values())) < 10:
        for kind, function in (("clone", keras.models.clone_model), ("insert", insert_attention)):
            gc.collect()
            with PeakMemory() as memory:
                # Processor time, which other work on the machine does not change.
                duration, result = timed(function, model, clock=time.process_time)
            seconds[kind].append(duration)
            # The first is the one that cannot take memory that an earlier one gave back.
            growth.setdefault(kind, memory.growth)
            attended = result if kind == "insert" else None
            del result
    row["seconds"] = {kind: statistics.median(values) for kind, values in seconds.items()}
    row["memory_over_weights"] = {kind: value / size_in_bytes for kind, value in growth.items()}
    row["weights_megabytes"] = size_in_bytes / 1e6

    row["shares_variables"] = bool(
        {id(v) for v in model.variables} & {id(v) for v in attended.variables}
    )
    before = run(model)
    row["inference"] = difference(run(attended), before)
    row["removed"] = difference(run(remove_attention(attended)), before)
    row["training"] = difference(run(attended, training=True), run(model, training=True))
    model.set_weights(weights)
    attended = insert_attention(model, start_as_identity=False)
    after = run(attended)
    row["without_identity"] = difference(after, before)
    with tempfile.TemporaryDirectory() as folder:
        attended.save(f"{folder}/model.keras")
        row["keras_file"] = difference(run(keras.models.load_model(f"{folder}/model.keras")), after)
        row["saved_model"] = difference(serve(attended, f"{folder}/model", pictures), after)

    attended = insert_attention(model)
    row["xla_step"] = fit_step(attended, pictures, jit_compile=True)
    row["source_untouched"] = difference(run(model), before)
    del attended, model
    gc.collect()

    keras.config.set_dtype_policy("mixed_float16")
    row["float16_step"] = fit_step(
        insert_attention(application(**arguments)), pictures, run_eagerly=True
    )
    return row


def difference(ours, theirs):
    import numpy as np

    if not np.isfinite(ours).all():
        raise ValueError("The outputs are not finite.")
    return float(np.max(np.abs(ours.astype("float64") - theirs)))


def serve(model, path, pictures):
    import tensorflow as tf

    model.export(path, verbose=False)
    loaded = tf.saved_model.load(path)
    return loaded.serve(pictures).numpy()


def fit_step(model, pictures, **options):
    """The loss of one step; an error if it or a weight is not finite afterwards."""
    import keras
    import numpy as np

    model.compile(keras.optimizers.SGD(1e-3), "mse", **options)
    targets = np.zeros((len(pictures), model.output_shape[-1]), "float32")
    loss = model.fit(pictures, targets, batch_size=len(pictures), verbose=0).history["loss"][0]
    if not all(np.isfinite(array).all() for array in [loss, *model.get_weights()]):
        raise ValueError(f"A step of fit gives values that are not finite. Received: {options}")
    return loss


def failures(row):
    """What is wrong with a row."""
    if "error" in row:
        return [row["error"]]
    wrong = [
        f"{key} differs by {row[key]:.1e}"
        for key in (
            "inference",
            "training",
            "removed",
            "source_untouched",
            "keras_file",
            "saved_model",
        )
        if row[key] > (1e-6 if key != "saved_model" else 1e-5)
    ]
    if row["shares_variables"]:
        wrong.append("shares variables")
    if row["seconds"]["insert"] > 2 * row["seconds"]["clone"]:
        wrong.append("slower than twice clone_model")
    return wrong


def in_a_process(name):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": COMPILER}
    process = subprocess.run(
        [sys.executable, __file__, name, "--child"], env=environment, capture_output=True, text=True
    )
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        return {"model": name, "error": reason}
    return json.loads(process.stdout.splitlines()[-1])


def print_tables(rows):
    print("\n| model | sites | parameters | with CBAM | multiply-adds | with CBAM |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        if "error" not in row:
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
    parser.add_argument("--output", type=pathlib.Path, default="all_applications.jsonl")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(check(options.names[0])))
        return 0
    from keras_cbam.applications import application_names

    done = {}
    if options.output.exists():
        lines = options.output.read_text().splitlines()
        done = {row["model"]: row for row in map(json.loads, lines)}
    for name in options.names or application_names():
        if name not in done or "error" in done[name]:
            duration, done[name] = timed(in_a_process, name)
            with open(options.output, "a") as file:
                file.write(json.dumps(done[name]) + "\n")
            print(
                f"{name}: {duration:.0f} s, {'; '.join(failures(done[name])) or 'ok'}", flush=True
            )
    rows = [done[name] for name in options.names or application_names()]
    print_tables(rows)
    return int(any(failures(row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
