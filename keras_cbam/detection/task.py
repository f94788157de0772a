"""The task `detection`: what the trainer is told of detectors."""

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_cbam.attention import layer_for_site
from keras_cbam.data.order import ONE_DEVICE, Devices, spread
from keras_cbam.detection.arguments import DetectorArguments
from keras_cbam.detection.comparison import check_detections
from keras_cbam.detection.data.batches import detection_batches
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.detection.data.load import load_detection_data
from keras_cbam.detection.evaluate import measure, predict_detections
from keras_cbam.detection.figures import plot_detections, plot_precision_recall
from keras_cbam.detection.models.build import build_detector, check_backbone, compile_detector
from keras_cbam.errors import DataError, quoted
from keras_cbam.training.arguments import with_signature
from keras_cbam.training.comparison import Comparison, compare_trainings
from keras_cbam.training.precision import jit_compile
from keras_cbam.training.run_folder import resumable
from keras_cbam.training.task import Phase
from keras_cbam.training.trainer import train
from keras_cbam.visualization.run_figures import plot_learning_curves

CLIPNORM = 10.0
WEIGHT_DECAY = 1e-4
# Part of the steps in which the rate rises.
WARMUP = 0.1
# Test images on which the reloaded detector is compared with the one in memory, and those drawn.
SAMPLE_SIZE = 16
IMAGES_DRAWN = 8
# Boxes of a lower confidence are not drawn.
THRESHOLD = 0.5


class DetectionTask:
    """A detector of `DetectorArguments` for `keras_cbam.training.train`, see `Task`.

    Raises:
        ValueError: if there is no such backbone or attention.
    """

    name = "detection"
    files = ("learning_curves.png", "detections.png", "precision_recall.png")

    def __init__(self, arguments: DetectorArguments):
        check_backbone(arguments.backbone)
        if arguments.attention is not None and not callable(arguments.attention):
            layer_for_site(arguments.attention, "site", start_as_identity=False)
        self.arguments = arguments

    def load(self) -> DetectionData:
        args = self.arguments
        # Scenes are of the size that the detector takes, and so are not resized.
        data = load_detection_data(
            args.data, args.seed, args.train_scenes, args.test_scenes, args.image_size, args.strict
        )
        if not len(data.train):
            raise DataError(f"{quoted(args.data)} must have a training part, received none.")
        return data

    def build(self, data: DetectionData) -> keras.Model:
        args = self.arguments
        classes = len(data.class_names)
        network: tuple[Any, ...] = (args.backbone, args.attention, args.weights)
        return build_detector(args.detector, classes, args.image_size, *network)

    def phases(self, model: Any, steps: int) -> list[Phase]:
        arguments = self.arguments

        @contextlib.contextmanager
        def compiled():
            all_steps = arguments.epochs * steps
            warmup = max(1, math.ceil(WARMUP * all_steps))
            schedule: Any = keras.optimizers.schedules.CosineDecay(
                initial_learning_rate=arguments.learning_rate / warmup,
                decay_steps=max(1, all_steps - warmup),
                warmup_target=arguments.learning_rate,
                warmup_steps=warmup,
            )
            optimizer = keras.optimizers.AdamW(
                schedule, weight_decay=WEIGHT_DECAY, clipnorm=CLIPNORM
            )
            compile_detector(model, optimizer, jit_compile(arguments.xla))
            yield

        return [Phase(arguments.epochs, compiled)]

    def batches(
        self,
        data: Any,
        part: str,
        epoch: int = 0,
        first_step: int = 0,
        devices: Devices = ONE_DEVICE,
    ) -> Any:
        arguments = self.arguments
        if part == "sample":
            test = data.test.readable()
            few = test.select(spread(len(test), SAMPLE_SIZE))
            return detection_batches(few, SAMPLE_SIZE, arguments.image_size)
        return detection_batches(
            getattr(data, part),
            arguments.batch_size,
            arguments.image_size,
            training=part == "train",
            seed=arguments.seed,
            epoch=epoch,
            first_step=first_step,
            augment=arguments.augment,
            devices=devices,
        )

    def measure(self, model: Any, data: Any, part: str = "test") -> tuple[dict[str, Any], tuple]:
        detection_set, size = getattr(data, part), self.arguments.image_size
        found = predict_detections(model, detection_set, size, self.arguments.batch_size)
        measured, curves = measure(model, detection_set.readable(), found, size)
        return measured, (found, curves)

    def artefacts(
        self, model: Any, data: DetectionData, history: Any, report: Any, predictions: Any
    ) -> dict[str, Callable]:
        test = data.test.readable()
        predictions, curves = predictions

        def detections():
            drawn = spread(len(test), IMAGES_DRAWN)
            kept = [~test.ignored[i] for i in drawn]
            truth = [(test.boxes[i][own], test.classes[i][own]) for i, own in zip(drawn, kept)]
            images, found = [test.images[i] for i in drawn], [predictions[i] for i in drawn]
            return plot_detections(images, found, test.class_names, truth, THRESHOLD)

        of_training = [name for name in history if not name.startswith("val_")]
        draws = (
            lambda: plot_learning_curves(history, of_training),
            detections,
            lambda: plot_precision_recall(curves),
        )
        return {
            name: lambda path, draw=draw: draw().savefig(path)
            for name, draw in zip(self.files, draws)
        }

    compare = staticmethod(check_detections)


@with_signature(DetectorArguments)
def train_detector(**arguments: Any) -> Any:
    """Trains a detector with attention, and writes what is needed to use it.

    AdamW with a weight decay of 1e-4; the rate rises linearly in the first tenth of the steps and
    falls by a cosine; the gradient of each variable is clipped to a norm of 10. Calls
    `keras.utils.set_random_seed(seed)`: on one machine, the same arguments give the same weights.

    Everything is written inside `output`: from the first epoch `arguments.json`, `history.csv`,
    `checkpoints/` and `best.weights.h5` (of the lowest validation loss); at the end `model.keras`,
    and then `report.json`, `learning_curves.png`, `detections.png` and `precision_recall.png`.
    Ctrl-C or SIGTERM ends the run after the step with a further checkpoint.

    Args:
        **arguments: the fields of `DetectorArguments`, each explained by `keras-cbam detect
            --help`. `attention` may be all that `insert_attention` takes.

    Returns:
        `keras_cbam.training.Run`. Its report has `evaluate_detector`'s metrics of the test images.

    Raises:
        TypeError, ValueError: if there is no such argument, or it is outside its range.
        DataError, WeightsError, DivergenceError, TrainingError, FileExistsError, TrainingStopped,
        OSError: see `keras_cbam.training.train`.

    Example:

    >>> run = train_detector(detector="ssd", epochs=1, output="run")
    >>> run = train_detector(resume="run", epochs=3)
    """
    resume = arguments.get("resume")
    earlier = None if resume is None else resumable(resume, DetectionTask.name)
    return train(DetectionTask(DetectorArguments.given(earlier, **arguments)))


def compare(
    attention: Sequence[str] | None = None,
    seeds: int | None = None,
    output: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    **arguments: Any,
) -> Comparison:
    """Compares the test AP at an overlap of 0.5 of detectors with each kind of attention.

    For these arguments and what is returned see `keras_cbam.training.compare_trainings`; the
    others are those of `train_detector`.

    Example:

    >>> found = compare(["none", "cbam"], seeds=3, output="comparison", epochs=20)
    >>> found.differences[0].sentence
    """
    return compare_trainings(train_detector, "AP50", attention, seeds, output, resume, **arguments)
