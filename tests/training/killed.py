"""Run as a fresh process: kills trainings at random moments, resumes them, and compares the ends.

`python -m tests.training.killed FOLDER KILLS [PRECISION]` prints JSON: how many kills there were in
which stage, how many trainings ended, and how many of those ended with the weights and the history
of the one that was not disturbed.
"""

import collections
import json
import multiprocessing
import pathlib
import random
import sys
import time

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf

from keras_cbam import CBAM
from keras_cbam.training import trainer as train
from keras_cbam.training.checkpoints import checkpoint_files
from keras_cbam.training.progress import Progress

# A child of a process that has computed nothing starts without loading the libraries again.
FORK = multiprocessing.get_context("fork")
SIZE = 32


def tiny_classifier(*_, num_classes, **__):
    """A network with all kinds of state: batch statistics, the seed of a dropout, momentum."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(4, 3, strides=4)(x)
    x = keras.layers.BatchNormalization()(x)
    x = CBAM(reduction_ratio=2)(x)
    x = keras.layers.Dropout(0.3)(keras.layers.GlobalAveragePooling2D()(x))
    outputs = keras.layers.Dense(num_classes, activation="softmax", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def make_data(path):
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pictures = generator.integers(0, 200, (60, SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]
    np.savez(path, x=pictures.astype("uint8"), y=labels)


def run(data, output, precision, resume=False, **more):
    """A training of 4 epochs of 12 steps, with a checkpoint every second one."""
    train.attention_classifier = tiny_classifier
    count_step = Progress.count_step

    def slowly(progress):
        count_step(progress)
        # About as long for the steps as for the artefacts, so that the kills fall on both.
        time.sleep(0.15)

    Progress.count_step = slowly
    return train.train_classifier(
        data,
        epochs=4,
        batch_size=4,
        precision=precision,
        output=output,
        resume=resume,
        checkpoint_steps=2,
        verbose=0,
        **more,
    )


def ends_alike(ours, theirs):
    """Whether two runs have the same history, to the last digit, and the same weights."""
    if (ours / "history.csv").read_text() != (theirs / "history.csv").read_text():
        return False
    models = [keras.models.load_model(path / "model.keras") for path in (ours, theirs)]
    weights = [model.get_weights() for model in models]
    return all(np.array_equal(our, their) for our, their in zip(*weights, strict=True))


def stage(output):
    if output.exists():
        return "at the end"
    unfinished = output.with_name(f"{output.name}.unfinished")
    if not unfinished.exists() or not checkpoint_files(unfinished / "checkpoints"):
        return "before the first checkpoint"
    if any((unfinished / "artefacts").iterdir()):
        return "while writing the artefacts"
    return "in training"


def compare(folder, outputs):
    return sum(ends_alike(output, folder / "undisturbed") for output in outputs)


def main(folder, kills, precision="float32"):
    folder, kills = pathlib.Path(folder), int(kills)
    data = folder / "pictures.npz"
    make_data(data)
    generator = random.Random(0)

    def start(output, resume):
        child = FORK.Process(target=run, args=(data, output, precision, resume))
        child.start()
        return child

    began = time.perf_counter()
    child = start(folder / "undisturbed", False)
    child.join()
    assert child.exitcode == 0
    seconds = time.perf_counter() - began
    stages, ended = collections.Counter(), []
    while True:
        output = folder / f"run-{len(ended)}"
        resume = False
        while not output.exists():
            child = start(output, resume)
            child.join(generator.uniform(0, seconds) if stages.total() < kills else None)
            if child.exitcode is None:
                child.kill()
                child.join()
                stages[stage(output)] += 1
            else:
                assert child.exitcode == 0
            resume = True
        ended.append(output)
        if stages.total() >= kills:
            break
    alike = FORK.Pool(1).apply(compare, (folder, ended))
    print(json.dumps({"kills": stages, "ended": len(ended), "alike": alike}))


if __name__ == "__main__":
    assert matplotlib.figure
    assert tf
    main(*sys.argv[1:])
