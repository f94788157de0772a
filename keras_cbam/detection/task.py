"""Pictures with boxes in, trained detector and its artefacts out."""

import dataclasses
import math
import pathlib
import time

import keras
import numpy as np

from keras_cbam.detection.comparison import verify_detector
from keras_cbam.detection.data.batches import detection_batches, fitted, reading
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.detection.data.load import SCENES, load_detection_data
from keras_cbam.detection.evaluate import measure, predict_detections
from keras_cbam.detection.figures import plot_detections, plot_precision_recall
from keras_cbam.detection.metrics.coco_metrics import precision_recall
from keras_cbam.detection.models.build import (
    KERAS_CV_DETECTORS,
    build_detector,
    check_backbone,
    compile_detector,
)
from keras_cbam.errors import positive_integer
from keras_cbam.training.arguments import (
    jit_compile,
    validate_attention,
    validate_precision,
    validate_recipe,
)
from keras_cbam.training.report import (
    check_finite,
    describe,
    downloading_weights,
    dtype_policy,
    spread,
)
from keras_cbam.training.run_folder import output_folder, write_history, write_report, writing
from keras_cbam.visualization.figures import plot_learning_curves

SMALLEST_PICTURE = 32
CLIPNORM = 10.0
WEIGHT_DECAY = 1e-4
# Part of the steps in which the rate rises.
WARMUP = 0.1
# Test pictures on which the reloaded detector is compared with the one in memory, and those drawn.
SAMPLE_SIZE = 16
PICTURES_DRAWN = 8
# Boxes of a lower confidence are not drawn.
THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True)
class DetectionRun:
    """What a training of a detector gives back.

    Attributes:
        model: the trained detector.
        data: `DetectionData` that it was trained and tested on.
        history: dict of lists, one number for each epoch.
        report: dict, the contents of `report.json`.
        output: `pathlib.Path` of the folder with the artefacts, or `None` if none were written.
    """

    model: keras.Model
    data: DetectionData
    history: dict
    report: dict
    output: object = None


def train_detector(
    detector="ssd",
    data=SCENES,
    backbone="small",
    attention="cbam",
    weights=None,
    image_size=96,
    epochs=18,
    batch_size=16,
    learning_rate=3e-3,
    precision="float32",
    xla=False,
    augment=True,
    seed=0,
    train_scenes=5000,
    test_scenes=500,
    output=None,
    overwrite=False,
    verbose="auto",
):
    """Trains a detector with attention and writes what is needed to use it.

    AdamW with a weight decay of 1e-4; the rate rises linearly in the first tenth of the steps and
    falls by a cosine; the gradient of each variable is clipped to a norm of 10. Calls
    `keras.utils.set_random_seed(seed)`: the same arguments give the same weights and history again
    on one machine.

    Args:
        detector: see `build_detector`. Defaults to `"ssd"`.
        data: `"scenes"` or the path of a folder in COCO's or VOC's layout, see
            `load_detection_data`. Defaults to `"scenes"`.
        backbone: see `build_detector`. Defaults to `"small"`.
        attention: see `build_detector`, or `None` for none. Defaults to `"cbam"`.
        weights: of the backbone, `"imagenet"` or `None`. Defaults to `None`: random.
        image_size: int, side of the square pictures in pixels, at least 32; a multiple of 32 for
            keras_cv's detectors. Defaults to `96`.
        epochs: int. Defaults to `18`.
        batch_size: int. Defaults to `16`.
        learning_rate: float, the highest rate. Defaults to `3e-3`.
        precision: dtype policy: `"float32"`, `"mixed_float16"` or `"mixed_bfloat16"`; keras_cv's
            detectors take `"float32"` only. Defaults to `"float32"`.
        xla: bool, whether the training step is compiled by XLA. Defaults to `False`.
        augment: bool, whether training pictures are augmented, see `detection_batches`.
            Defaults to `True`.
        seed: int, of the initial weights, the scenes, the order of the pictures and their
            augmentation. Defaults to `0`.
        train_scenes: int, number of scenes to train on. Defaults to `5000`.
        test_scenes: int, number of scenes to test on. Defaults to `500`.
        output: path of a folder to be made, or `None` to write nothing. It gets `model.keras`,
            `history.csv`, `report.json`, and the figures `learning_curves.png`, `detections.png`
            and `precision_recall.png`, all at once at the end of a run in which nothing failed.
            Defaults to `None`.
        overwrite: bool, whether an earlier run in `output` is replaced. Defaults to `False`.
        verbose: see `keras.Model.fit`. Defaults to `"auto"`.

    Returns:
        A `DetectionRun`. Its report has the metrics of `evaluate_detector` on the test pictures.

    Raises:
        ValueError: if an argument is outside its range or names nothing known.
        DataError: if the data cannot be used.
        WeightsError: if weights cannot be downloaded.
        TrainingError: if the training diverged, or the saved model predicts otherwise than the
            model in memory.
        FileExistsError: if `output` is not empty; with `overwrite=True`, if it holds anything
            that is not of a run.
        OSError: if the artefacts cannot be written.
        ImportError: if there is an `output` but no Matplotlib: `pip install keras_cbam[plot]`.

    Example:

    >>> run = train_detector("ssd", epochs=1, output="run")
    >>> run.report["AP50"]
    """
    arguments = dict(locals())
    start = time.perf_counter()
    _validate(arguments)
    with output_folder(output, overwrite, resume=None) as folders:
        # Scenes are of the size that the detector takes, and so are not resized.
        sets = load_detection_data(data, seed, train_scenes, test_scenes, image_size)
        keras.utils.set_random_seed(seed)
        with dtype_policy(precision), downloading_weights():
            model = build_detector(
                detector, len(sets.class_names), image_size, backbone, attention, weights
            )
        batches = detection_batches(
            sets.train, batch_size, image_size, training=True, seed=seed, augment=augment
        )
        compile_detector(model, _optimizer(learning_rate, epochs * len(batches)), jit_compile(xla))
        with reading(sets.test):
            # A damaged test picture is to cost no training.
            for i in range(len(sets.test)):
                sets.test.pictures[i]
        start_of_training = time.perf_counter()
        with reading(sets.train):
            fitting = model.fit(batches, epochs=epochs, shuffle=False, verbose=verbose)
        seconds = time.perf_counter() - start_of_training
        history = {
            name: [float(value) for value in values] for name, values in fitting.history.items()
        }
        check_finite(history["loss"], learning_rate, "losses")
        for weight in model.get_weights():
            check_finite(weight, learning_rate, "weights")
        detections = predict_detections(model, sets.test, image_size, batch_size)
        measured = measure(model, sets.test, detections, image_size)
        skipped = {"training": sets.train.skipped, "test": measured.pop("skipped")}
        report = {
            **measured,
            "data": {
                "name": sets.name,
                "training_pictures": len(sets.train),
                "test_pictures": len(sets.test),
                "class_names": sets.class_names,
                "skipped": skipped,
            },
            **describe(model, arguments, seconds),
        }
        if folders.artefacts is not None:
            with writing(folders.artefacts):
                model.save(folders.artefacts / "model.keras")
                write_history(folders.artefacts, history)
                _write_figures(folders.artefacts, history, sets.test, detections)
            sample = _sample(sets.test, image_size)
            difference = verify_detector(folders.artefacts, model, sample)
            report["largest_difference_after_reload"] = {"model.keras": difference}
            report["seconds"]["total"] = round(time.perf_counter() - start, 1)
            write_report(folders.artefacts, report)
    output = None if output is None else pathlib.Path(output)
    return DetectionRun(model, sets, history, report, output)


def _validate(arguments):
    for name in ("train_scenes", "test_scenes"):
        positive_integer(name, arguments[name])
    size = positive_integer("image_size", arguments["image_size"])
    if size < SMALLEST_PICTURE:
        raise ValueError(
            f"`image_size` must be at least {SMALLEST_PICTURE}. Received: image_size={size}"
        )
    names = ("epochs", "batch_size", "learning_rate", "seed")
    recipe = {name: arguments[name] for name in names}
    validate_recipe(**recipe, freeze_epochs=0, weight_decay=WEIGHT_DECAY)
    validate_precision(arguments["precision"])
    if arguments["detector"] in KERAS_CV_DETECTORS:
        if arguments["precision"] != "float32":
            raise ValueError(
                "keras_cv's detectors compute in float32. Received: "
                f"detector={arguments['detector']!r}, precision={arguments['precision']!r}"
            )
        if size % 32:
            raise ValueError(
                "`image_size` must be a multiple of 32 for keras_cv's detectors. Received: "
                f"detector={arguments['detector']!r}, image_size={size}"
            )
    check_backbone(arguments["backbone"])
    if arguments["weights"] not in (None, "imagenet"):
        raise ValueError(
            f'`weights` must be "imagenet" or None. Received: weights={arguments["weights"]!r}'
        )
    validate_attention(arguments["attention"], start_as_identity=False)


def _optimizer(learning_rate, steps):
    warmup = max(1, math.ceil(WARMUP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=learning_rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, clipnorm=CLIPNORM)


def _write_figures(folder, history, test, detections):
    drawn = spread(len(test), PICTURES_DRAWN)
    truth = [(test.boxes[i][~test.ignored[i]], test.classes[i][~test.ignored[i]]) for i in drawn]
    figures = {
        "learning_curves.png": plot_learning_curves(history, sorted(history)),
        "detections.png": plot_detections(
            [test.pictures[i] for i in drawn],
            [detections[i] for i in drawn],
            test.class_names,
            truth,
            THRESHOLD,
        ),
        "precision_recall.png": plot_precision_recall(precision_recall(test, detections)),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=100)


def _sample(test, image_size):
    return np.stack(
        [fitted(test.pictures[i], image_size)[0] for i in spread(len(test), SAMPLE_SIZE)]
    )
