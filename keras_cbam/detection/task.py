"""The task `detection`: what the trainer is told of detectors."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_cbam.attention import layer_for_site
from keras_cbam.data.order import ONE_DEVICE, Devices, spread
from keras_cbam.detection.arguments import DetectorArguments
from keras_cbam.detection.data.batches import detection_batches
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.detection.data.load import load_detection_data
from keras_cbam.detection.evaluate import check_detections, measure, predict_detections
from keras_cbam.detection.figures import plot_detections, plot_precision_recall
from keras_cbam.detection.metrics.coco_metrics import coco_metrics
from keras_cbam.detection.models.build import build_detector, check_backbone
from keras_cbam.detection.recipes import freeze_batch_norm, recipe_phases, take_weights
from keras_cbam.errors import DataError, ModelError, library, quoted
from keras_cbam.training.arguments import with_signature
from keras_cbam.training.comparison import Comparison, compare_trainings
from keras_cbam.training.run_folder import resumable
from keras_cbam.training.task import Phase, figure_writers
from keras_cbam.training.trainer import train
from keras_cbam.visualization.run_figures import plot_learning_curves

# Test images on which the reloaded detector is compared with the one in memory, and those drawn.
SAMPLE_SIZE = 16
IMAGES_DRAWN = 8
# What the history has of the validation images, beside the losses.
VALIDATED = ("AP", "AP50")


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
        self.weights_taken = None

    def load(self) -> DetectionData:
        args = self.arguments
        # What would otherwise be missing after an epoch.
        library("faster_coco_eval", "detection")
        # Scenes are of the size that the detector takes, and so are not resized.
        given = (args.seed, args.train_scenes, args.test_scenes, args.image_size, args.strict)
        data = load_detection_data(args.data, *given, splits=args.splits)
        if not len(data.train):
            raise DataError(f"{quoted(args.data)} must have a training part, received none.")
        if args.epochs is None:
            steps = math.ceil(len(data.train) / args.batch_size)
            epochs = max(1, round(args.iterations / steps))
            self.arguments = dataclasses.replace(args, epochs=epochs)
        return data

    def build(self, data: DetectionData) -> keras.Model:
        args = self.arguments
        of_model = args.weights is not None and args.weights.endswith(".keras")
        network = args.backbone, args.attention, None if of_model else args.weights
        model = build_detector(args.detector, len(data.class_names), args.image_size, *network)
        model.short_side = args.short_side and max(args.short_side)
        if of_model:
            self.weights_taken = take_weights(model.backbone, args.weights)
            if args.verbose:
                taken, left = self.weights_taken["layers_taken"], self.weights_taken["layers_left"]
                left = f"{len(left)} are not in it"
                print(f"The backbone takes {taken} layers of {args.weights}, {left}.")
        if args.freeze_batch_norm:
            freeze_batch_norm(model.backbone)
        return model

    def phases(self, model: Any, steps: int) -> list[Phase]:
        return recipe_phases(self.arguments, model, steps)

    def batches(
        self,
        data: Any,
        part: str,
        epoch: int = 0,
        first_step: int = 0,
        devices: Devices = ONE_DEVICE,
    ) -> Any:
        args = self.arguments
        size = {"image_size": args.image_size, "short_side": args.short_side}
        if part == "sample":
            test = data.test.readable()
            few = test.select(spread(len(test), SAMPLE_SIZE))
            return detection_batches(few, SAMPLE_SIZE, **size)
        size |= {"training": part == "train", "augment": args.augment}
        order = {"seed": args.seed, "epoch": epoch, "first_step": first_step, "devices": devices}
        return detection_batches(getattr(data, part), args.batch_size, **size, **order)

    def validate(self, model: Any, data: DetectionData) -> dict[str, float]:
        args = self.arguments
        if args.distribute is not None:
            # A last batch of fewer images than devices cannot be predicted.
            return {}
        try:
            found = predict_detections(model, data.validation, args.image_size, args.batch_size)
            metrics = coco_metrics(data.validation.readable(), found)
        except (DataError, ModelError) as error:
            warnings.warn(f"The validation images are not measured: {error}", stacklevel=2)
            metrics = {}
        # Without objects a metric is -1.
        known = {name: metrics.get(name, -1) for name in VALIDATED}
        return {f"val_{name}": value if value >= 0 else math.nan for name, value in known.items()}

    def measure(self, model: Any, data: Any) -> tuple[dict[str, Any], tuple]:
        size = self.arguments.image_size
        found = predict_detections(model, data.test, size, self.arguments.batch_size)
        measured, curves = measure(model, data.test.readable(), found, size)
        taken = {} if self.weights_taken is None else {"weights": self.weights_taken}
        return {**measured, **taken}, (found, curves)

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
            return plot_detections(images, found, test.class_names, truth)

        metrics = list(dict.fromkeys(name.removeprefix("val_") for name in history))
        draws = (
            lambda: plot_learning_curves(history, metrics),
            detections,
            lambda: plot_precision_recall(curves),
        )
        return figure_writers(dict(zip(self.files, draws)))

    compare = staticmethod(check_detections)


@with_signature(DetectorArguments)
def train_detector(**arguments: Any) -> Any:
    """Trains a detector with attention, and writes what is needed to use it.

    For the recipes see `recipe_phases`. Calls `keras.utils.set_random_seed(seed)`: on one machine,
    the same arguments give the same weights.

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
    earlier = resumable(arguments.get("resume"), DetectionTask.name)
    return train(DetectionTask(DetectorArguments.given(earlier, **arguments)))


def compare(attention: Sequence[str] | None = None, **arguments: Any) -> Comparison:
    """Compares the test AP at an overlap of 0.5 of detectors with each kind of attention.

    For `attention`, `seeds`, `output` and `resume`, and what is returned, see
    `keras_cbam.training.compare_trainings`; the others are those of `train_detector`.

    Example:

    >>> found = compare(["none", "cbam"], seeds=3, output="comparison", epochs=20)
    >>> found.differences[0].sentence
    """
    return compare_trainings(train_detector, "AP50", attention, **arguments)
