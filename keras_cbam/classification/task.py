"""The task `classification`: what the trainer is told of image classifiers."""

import typing
from collections.abc import Sequence

import keras
import numpy as np

from keras_cbam import models
from keras_cbam._compat import inner_layers
from keras_cbam.applications import attention_classifier
from keras_cbam.classification.arguments import SMALL_NETWORK, ClassifierArguments
from keras_cbam.classification.evaluate import load_images, measure
from keras_cbam.classification.recipes import recipe_phases
from keras_cbam.data.batches import evaluation_batches, reading, training_batches
from keras_cbam.data.image_sources import ArrayImages
from keras_cbam.data.labelled_images import ImageData, LabelledImages
from keras_cbam.data.order import ONE_DEVICE, spread
from keras_cbam.errors import TrainingError
from keras_cbam.insertion.insert import insert_attention
from keras_cbam.serving.saved_model import write_saved_model
from keras_cbam.training.arguments import with_signature
from keras_cbam.training.comparison import Comparison, compare_trainings
from keras_cbam.training.run_folder import resumable
from keras_cbam.training.task import figure_writers
from keras_cbam.training.trainer import Run, fit, train
from keras_cbam.visualization.class_maps import class_activation
from keras_cbam.visualization.figures import plot_attention, plot_grad_cam
from keras_cbam.visualization.layer_maps import has_attention
from keras_cbam.visualization.localization import area_share, energy_inside
from keras_cbam.visualization.run_figures import plot_confusion_matrix, plot_learning_curves

# Test images on which the reloaded models are compared with the model in memory.
SAMPLE_SIZE = 64
# Pixels up to this are the ground of the embedded images.
DARK = 16
# Test images in the Grad-CAM figure; attention has rows enough with the first of them.
IMAGES_DRAWN = 3


class ClassificationTask:
    """An image classifier of `ClassifierArguments`, see `keras_cbam.training.task.Task`."""

    name = "classification"
    files = (
        *("saved_model", "learning_curves.png", "confusion_matrix.png", "grad_cam.png"),
        "attention.png",
    )

    def __init__(self, arguments):
        self.arguments = arguments

    def load(self):
        return load_images(self.arguments)

    def build(self, data):
        arguments = self.arguments
        given = {
            "num_classes": len(data.class_names),
            "attention": arguments.attention,
            "input_shape": (arguments.image_size, arguments.image_size, 3),
            **arguments.backbone_arguments,
        }
        try:
            if arguments.recipe == "paper":
                return getattr(models, arguments.backbone)(**given)
            if arguments.backbone == SMALL_NETWORK:
                model = getattr(models, SMALL_NETWORK)(**{**given, "attention": None})
                return insert_attention(model, arguments.attention, arguments.where)
            given |= {"where": arguments.where, "weights": arguments.weights}
            model = attention_classifier(arguments.backbone, **given)
        except TypeError as error:
            raise ValueError(
                f"{arguments.backbone} does not take these arguments: {error}. "
                f"Received: backbone_arguments={arguments.backbone_arguments}"
            ) from error
        if arguments.weights is None:
            # The statistics of 0.99 lag behind by hundreds of steps: too long for a short training.
            for layer in inner_layers(model):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.momentum = 0.9
        return model

    def phases(self, model, steps):
        return recipe_phases(self.arguments, model, steps)

    def batches(self, data, part, epoch=0, first_step=0, devices=ONE_DEVICE):
        arguments, size = self.arguments, self.arguments.batch_size
        if part == "sample":
            indices = spread(len(data.test), SAMPLE_SIZE)
            images, kept = data.test.images.read(indices)
            few = LabelledImages(ArrayImages(images), data.test.labels[indices[kept]])
            return evaluation_batches(few, SAMPLE_SIZE)
        if part == "train":
            given = (arguments.seed, epoch, arguments.augment, first_step, devices)
            batches = training_batches(data.train, size, *given)
        else:
            batches = evaluation_batches(getattr(data, part), size, devices)
        return self._with_targets(batches, data, part)

    def _with_targets(self, batches, data, part):
        """One-hot labels where they are smoothed, and weights where classes are balanced."""
        import tensorflow as tf

        classes = len(data.class_names)
        if self.arguments.class_weights == "balanced" and part == "train":
            counts = np.maximum(np.bincount(data.train.labels, minlength=classes), 1)
            weights = tf.constant(counts.sum() / (classes * counts), "float32")
            batches = batches.map(lambda x, labels: (x, labels, tf.gather(weights, labels)))
        if self.arguments.label_smoothing:
            batches = batches.map(lambda x, labels, *more: (x, tf.one_hot(labels, classes), *more))
        return batches

    def validate(self, model, data):
        return {}

    def measure(self, model, data):
        metrics, predictions = measure(
            model, data.test, data.class_names, self.arguments.batch_size
        )
        if self.arguments.data is None:
            metrics["grad_cam"] = _grad_cam_on_garments(model, data.test)
        return metrics, predictions

    def artefacts(self, model, data, history, report, predictions):
        images, _ = data.test.images.read(spread(len(data.test), IMAGES_DRAWN))
        names = data.class_names
        figures = {
            "learning_curves.png": lambda: plot_learning_curves(history),
            "grad_cam.png": lambda: plot_grad_cam(model, images, class_names=names),
        }
        matrix = report.get("confusion_matrix")
        if matrix is not None:
            figures["confusion_matrix.png"] = lambda: plot_confusion_matrix(matrix, names)
        if has_attention(model):
            figures["attention.png"] = lambda: plot_attention(model, images[0])
        return {
            "saved_model": lambda path: write_saved_model(model, path),
            **figure_writers(figures),
        }

    @staticmethod
    def compare(expected, found, tolerance):
        difference = float(np.max(np.abs(expected["predictions"] - found["predictions"])))
        if not difference <= tolerance:
            raise TrainingError(f"largest difference {difference:.2g}, allowed {tolerance:.2g}")
        return {"probabilities": difference}


def _grad_cam_on_garments(model, part):
    """How much of Grad-CAM lies on the garments, which the embedded images show on black."""
    images, _ = part.images.read(np.arange(len(part)))
    found = class_activation(model, images)
    masks = images.max(axis=-1) > DARK
    return {
        "layer": found.layer,
        "size": list(found.size),
        "energy_inside": float(np.nanmean(energy_inside(found.maps, masks))),
        "area_share": float(np.mean(area_share(found.maps, masks))),
    }


@with_signature(ClassifierArguments)
def train_classifier(**arguments: typing.Any) -> Run:
    """Trains an image classifier with attention, and writes what is needed to use it.

    For the recipes see `recipe_phases`. The same arguments, `seed` among them, give the same
    weights and history again on one machine.

    Everything is written inside `output`: from the first epoch `arguments.json`, `history.csv`,
    `checkpoints/` and `best.weights.h5` (of the lowest validation loss); then `model.keras`; and
    last `report.json`, `saved_model/` and figures. Ctrl-C ends it after a step and a checkpoint.

    Args:
        **arguments: the fields of `ClassifierArguments`, see `keras-cbam train --help`, such as
            `data`, `backbone` and `epochs`; `attention` and `where` as of `insert_attention`.

    Returns:
        `keras_cbam.training.Run`.

    Raises:
        TypeError: if there is no such argument. For the others see `keras_cbam.training.train`.

    Example:

    >>> run = train_classifier(epochs=1, output="run")
    >>> run = train_classifier(resume="run", epochs=3)
    >>> run.report["accuracy"]
    """
    return train(_task(arguments))


def fit_classifier(
    model: keras.Model, data: ImageData, **arguments: typing.Any
) -> dict[str, list[float]]:
    """Trains your own classifier by a recipe; writes nothing.

    Args:
        model: Functional `keras.Model` from images to class probabilities.
        data: `ImageData`, see `keras_cbam.data.load_data`.
        **arguments: see `train_classifier`; those of the network and the data have no effect.

    Returns:
        Dict of lists, one number for each epoch: `accuracy`, `loss`, `val_accuracy`, `val_loss`.

    Raises:
        ValueError: if an argument is outside its range.
        DataError: if more than one image in ten cannot be read.

    Example:

    >>> model = attention_classifier("MobileNetV2", 10, input_shape=(96, 96, 3))
    >>> fit_classifier(model, data, recipe="fine-tuning", epochs=3, freeze_epochs=1)
    """
    if arguments.get("recipe") == "fine-tuning":
        # They are in the model.
        arguments = {"backbone": model.name, "weights": "imagenet", **arguments}
    with reading(*data.sources()):
        return fit(_task(arguments), model, data)


def _task(given):
    earlier = resumable(given.get("resume"), ClassificationTask.name)
    return ClassificationTask(ClassifierArguments.given(earlier, **given))


def compare(attention: Sequence[str] | None = None, **arguments: typing.Any) -> Comparison:
    """Compares the test accuracy of classifiers with each kind of attention.

    For `attention`, `seeds`, `output` and `resume`, and what is returned, see
    `keras_cbam.training.compare_trainings`; the others are those of `train_classifier`.

    Example:

    >>> found = compare(["none", "cbam"], seeds=3, output="comparison", epochs=20)
    >>> found.differences[0].sentence
    """
    return compare_trainings(train_classifier, "accuracy", attention, **arguments)
