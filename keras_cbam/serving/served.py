"""An artefact in a fresh process of its own runtime."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from keras_cbam.errors import ExportError, last_line
from keras_cbam.serving import runtimes


class ServedArtefact:
    """Within the block, a process that has loaded an artefact, with neither Keras nor this package.

    >>> with ServedArtefact("onnx", "model.onnx") as served:
    ...     probabilities = served.predict(images, batch_size=32)
    """

    def __init__(self, file_format, path):
        self.file_format, self.path = file_format, path

    def __enter__(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.log = open(self.folder / "log", "w+", errors="replace")
        # Without its folder among those of modules, of which it has some named as libraries.
        self.process = subprocess.Popen(
            [sys.executable, "-P", runtimes.__file__, self.file_format, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        self.log.close()
        self.scratch.cleanup()

    def _ask(self, images, **request):
        np.save(self.folder / "images.npy", images)
        request["images"] = str(self.folder / "images.npy")
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait()
            self.log.seek(0)
            raise ExportError(
                f"The {self.file_format} artefact cannot be used by its own runtime: "
                f"{last_line(self.log.read())}"
            )
        return json.loads(answer)

    def predict(self, images, batch_size):
        """Probabilities of images, in batches of a size."""
        output = self.folder / "probabilities.npy"
        self._ask(images, batch_size=batch_size, output=str(output))
        return np.load(output)

    def milliseconds(self, images, seconds):
        """How long predictions of all the images at once take, repeated for some seconds."""
        return self._ask(images, seconds=seconds)["milliseconds"]
