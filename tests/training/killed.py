"""Run as a fresh process: kills trainings at random moments, resumes them, and compares the ends.

`python -m tests.training.killed TASK FOLDER KILLS [PRECISION] [--signal INT]`, with TASK one of
toy, classification and detection, prints JSON: how many kills there were in which stage, how many
trainings ended, and how many of those ended with the weights and the history of the one that was
not disturbed.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import time
import zipfile

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf

from keras_cbam import CBAM
from keras_cbam.classification import task as classification
from keras_cbam.training import trainer
from keras_cbam.training.checkpoints import checkpoint_files
from keras_cbam.training.progress import Progress
from keras_cbam.training.run_folder import read_json
from tests.training.toy_task import train_toy

# A child of a process that has computed nothing starts without loading the libraries again.
FORK = multiprocessing.get_context("fork")
SIZE = 32
# A training has 3 epochs of 6 steps.
ARGUMENTS = {"epochs": 3, "checkpoint_steps": 2, "verbose": 0}


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


def train_tiny_classifier(folder, **given):
    classification.attention_classifier = tiny_classifier
    data = folder / "images.npz"
    if not data.exists():
        generator = np.random.default_rng(0)
        labels = np.arange(60) % 2
        images = generator.integers(0, 200, (60, SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]
        np.savez(data, x=images.astype("uint8"), y=labels)
    if "resume" not in given:
        given |= {"data": data, "backbone": "MobileNet", "batch_size": 8, "image_size": SIZE}
    classification.train_classifier(**given)


def train_tiny_detector(folder, **given):
    # Its libraries are those of an extra.
    from keras_cbam.detection import task as detection
    from tests.detection.networks import tiny_detector

    detection.build_detector = tiny_detector
    if "resume" not in given:
        given |= {"train_scenes": 24, "test_scenes": 8, "batch_size": 4, "image_size": 64}
    detection.train_detector(**given)


TRAIN = {
    "toy": lambda folder, **given: train_toy(**given),
    "classification": train_tiny_classifier,
    "detection": train_tiny_detector,
}


def run(task, folder, output, precision):
    """Begins a training, or resumes the one that is in the output folder."""
    # A shell starts what it runs in the background without it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The saved models are read again elsewhere.
    trainer.check_reloaded = lambda *_: {}
    end_step = Progress.end_step

    def slowly(*arguments):
        # About as long for the steps as for the artefacts, so that the kills fall on both.
        time.sleep(0.05)
        end_step(*arguments)

    Progress.end_step = slowly
    if (output / "arguments.json").exists():
        given = {"resume": output}
    else:
        given = {**ARGUMENTS, "precision": precision, "output": output}
    try:
        TRAIN[task](folder, **given)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def stage(output):
    """How far a run was when it was killed, told from the files in its folder."""
    report = read_json(output / "report.json")
    if not (output / "arguments.json").exists():
        return "before it was begun"
    if "total" in report.get("seconds", ()):
        return "done"
    if report:
        return "while it was measured and drawn"
    if (output / "model.keras").exists():
        return "after the model was saved"
    if checkpoint_files(output / "checkpoints"):
        return "in training"
    return "before the first checkpoint"


def ends_alike(ours, theirs):
    """Whether two runs have the same history, to the last digit, and the same weights.

    With them are compared the state of the optimizer, which is in the same file, and the weights of
    the best epoch.
    """
    contents = [
        (
            (path / "history.csv").read_text(),
            zipfile.ZipFile(path / "model.keras").read("model.weights.h5"),
            (path / "best.weights.h5").read_bytes(),
        )
        for path in (ours, theirs)
    ]
    return contents[0] == contents[1]


def main(task, folder, kills, precision, number):
    generator = random.Random(0)

    def start(output):
        child = FORK.Process(target=run, args=(task, folder, output, precision))
        child.start()
        return child

    began = time.perf_counter()
    child = start(folder / "undisturbed")
    child.join()
    assert child.exitcode == 0
    seconds = time.perf_counter() - began
    stages, ended = collections.Counter(), []
    while stages.total() < kills:
        output, has_ended = folder / f"run-{len(ended)}", False
        while not has_ended:
            child = start(output)
            child.join(generator.uniform(0, seconds) if stages.total() < kills else None)
            is_killed = child.exitcode is None
            if is_killed:
                os.kill(child.pid, number)
                child.join()
                stages[stage(output)] += 1
            # A signal may come too late to be noticed.
            has_ended = child.exitcode == 0
            assert has_ended or is_killed, f"{output} failed"
        ended.append(output)
    alike = sum(ends_alike(output, folder / "undisturbed") for output in ended)
    print(json.dumps({"kills": stages, "ended": len(ended), "alike": alike}))


if __name__ == "__main__":
    assert matplotlib.figure
    assert tf
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=tuple(TRAIN))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("kills", type=int)
    parser.add_argument("precision", nargs="?", default="float32")
    parser.add_argument("--signal", choices=("KILL", "INT"), default="KILL")
    given = parser.parse_args()
    number = getattr(signal, f"SIG{given.signal}")
    main(given.task, given.folder, given.kills, given.precision, number)
