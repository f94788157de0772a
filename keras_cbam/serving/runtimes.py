"""Artefacts loaded by their own runtimes, with neither Keras nor this package.

As a program, `python -P runtimes.py FORMAT PATH`, it answers requests, one JSON object a line:
`{"images": FILE.npy, "batch_size": N, "output": FILE.npy}` to predict, and
`{"images": FILE.npy, "seconds": S}` to time predictions of all of them at once.
"""

import json
import os
import sys
import time

import numpy as np


def load_artefact(file_format, path):
    """Loads an artefact of a format as a function from float32 pixels to its outputs by name."""
    return _LOADERS[file_format](os.fspath(path))


def _load_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)

    # It holds `loaded`, as variables live no longer than that.
    def predict(pixels):
        outputs = loaded.signatures["serving_default"](pixels=tf.constant(pixels))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return predict


def _load_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=os.cpu_count())
    signature = interpreter.get_signature_runner("serving_default")
    return lambda pixels: signature(pixels=pixels)


def _load_onnx(path):
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels})))


_LOADERS = {"saved_model": _load_saved_model, "litert": _load_litert, "onnx": _load_onnx}


def call_milliseconds(predict, pixels, seconds):
    """The milliseconds of each call of a function, repeated for some seconds."""
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        predict(pixels)
        times.append(1000 * (time.perf_counter() - start))
    return times


def _answer(predict, images, batch_size=None, output=None, seconds=None):
    pixels = np.load(images).astype("float32")
    if seconds is not None:
        return {"milliseconds": call_milliseconds(predict, pixels, seconds)}
    batches = [predict(pixels[i : i + batch_size]) for i in range(0, len(pixels), batch_size)]
    np.savez(
        output, **{name: np.concatenate([one[name] for one in batches]) for name in batches[0]}
    )
    return {}


def _serve(file_format, path):
    # The runtimes print on the standard output too.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    predict = load_artefact(file_format, path)
    for line in sys.stdin:
        print(json.dumps(_answer(predict, **json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
