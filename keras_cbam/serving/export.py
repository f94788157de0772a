"""A model in a format of serving, checked by that format's own runtime, whatever its task."""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from keras_cbam.errors import ExportError, ModelError, last_line, quoted
from keras_cbam.serving import agreement, runtimes
from keras_cbam.serving.artefact_files import beside, put_in_place, size_in_bytes
from keras_cbam.serving.conversion import convert
from keras_cbam.serving.formats import OUTPUT

# Images at once: of the predictions that are compared, and of those that are timed.
COMPARED_BATCHES = (32, 5)
TIMED_BATCHES = (1, 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artefact:
    """A model in a format of serving at `output`, whatever its task.

    Attributes:
        data: string, name of the data that the images are from.
        calibration_images: int, training images that `"int8"` learned from; else 0.
        images: int, test images that were compared.
        size: pair of ints, bytes of the Keras file and of the artefact.
        skipped: list of lines `"path: reason"` on images that could not be used.
    """

    format: str
    quantize: str
    output: pathlib.Path
    data: str
    calibration_images: int
    images: int
    size: tuple
    skipped: list


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Artefact):
    """How an `Artefact` compares with the Keras model; pairs are of Keras and the artefact.

    Attributes:
        activation: string, what was added to make the model's outputs probabilities, or `None`.
        input_shape: tuple, the shape of an image.
        largest_difference: float, of probabilities.
        agreement: float, part of the images whose likeliest class is the same.
        accuracy: pair of floats; `None` where the data have other classes than the model.
        milliseconds: `{batch size: pair of floats}`, median milliseconds for each image.
    """

    activation: str | None
    input_shape: tuple
    largest_difference: float
    agreement: float
    accuracy: tuple | None
    milliseconds: dict


class ServedArtefact:
    """Within the block, a process that has loaded an artefact without Keras and this package."""

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
        """A dict of the outputs for images, by name."""
        output = self.folder / "outputs.npz"
        self._ask(images, batch_size=batch_size, output=str(output))
        with np.load(output) as arrays:
            return dict(arrays)

    def milliseconds(self, images, seconds):
        """How long predictions of all the images at once take, repeated for some seconds."""
        return self._ask(images, seconds=seconds)["milliseconds"]


@contextlib.contextmanager
def served(model_file, file_format, output, quantize, images, activation=None, **writer):
    """Writes an artefact, see `convert`: within the block it is served, then it is at `output`.

    One with which the block raises ExportError is kept, beside an earlier one as `failed-<name>`.
    """
    with beside(output) as path:
        convert(model_file, file_format, path, quantize, activation, images, **writer)
        try:
            with ServedArtefact(file_format, path) as artefact:
                yield artefact
        except ExportError as error:
            place = output.with_name(f"failed-{output.name}") if output.exists() else output
            put_in_place(path, place)
            raise ExportError(f"{error} It is at {quoted(place)}.") from error
        put_in_place(path, output)


def export_model(model, model_file, format, output, quantize, test, calibration, **told):  # noqa: A002
    """Writes a model in a format of serving, and compares its predictions with Keras: an `Export`.

    See `classification.export.export_run`; `test` are images and their labels or `None`, and
    `told` the `data` and `skipped` of the `Export`.
    """
    images, labels = test
    expected = model.predict(images, batch_size=32, verbose=0).astype("float32")
    if not np.isfinite(expected).all():
        raise ModelError(f"The model {model.name!r} gives scores that are not finite.")
    activation = agreement.missing_activation(expected)
    expected = agreement.activated(expected, activation)
    with served(model_file, format, output, quantize, calibration, activation) as artefact:
        found = [artefact.predict(images, size)[OUTPUT] for size in COMPARED_BATCHES]
        compared = agreement.compare(expected, found)
        agreement.check_agreement(model, format, quantize, **compared)
        milliseconds = {
            size: agreement.milliseconds_each(model, artefact, images, size)
            for size in TIMED_BATCHES
        }
    accuracy = None
    if labels is not None:
        classes = [agreement.likeliest(one) for one in (expected, found[0])]
        accuracy = tuple(float((one == labels).mean()) for one in classes)
    return Export(
        format=format,
        quantize=quantize,
        output=output,
        activation=activation,
        calibration_images=0 if calibration is None else len(calibration),
        images=len(images),
        input_shape=images.shape[1:],
        accuracy=accuracy,
        size=(size_in_bytes(model_file), size_in_bytes(output)),
        milliseconds=milliseconds,
        **compared,
        **told,
    )
