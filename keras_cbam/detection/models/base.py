"""What SSD, StairNet and Faster R-CNN have in common: losses, steps and decoded predictions."""

import inspect
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_cbam.detection.models.backbone_of_any_model import feature_levels
from keras_cbam.detection.ops import ops
from keras_cbam.detection.ops.suppression import suppress_in_classes
from keras_cbam.errors import is_number, positive_integer, require


class Detector(keras.Model):
    """A detector: a subclass gives `call`, `targets` with weights, and `candidates` with scores.

    Each argument of the constructors is an attribute of its name, from which it is saved.
    """

    # The losses of the papers, by the name of the raw prediction; Huber's is smooth L1.
    _LOSSES = {
        "box": keras.losses.Huber(),
        "classification": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    # Arguments that earlier files lack, and what those were made with.
    _EARLIER = {}

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        confidence_threshold: float = 0.01,
        iou_threshold: float = 0.45,
        max_detections: int = 200,
        short_side: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        require(
            0 <= confidence_threshold <= 1 and 0 < iou_threshold <= 1,
            "`confidence_threshold` and `iou_threshold` must be within [0, 1], the latter not 0.",
            f"{confidence_threshold=}, {iou_threshold=}",
        )
        self.backbone = backbone
        self.num_classes = positive_integer("num_classes", num_classes)
        self.confidence_threshold = confidence_threshold
        self.iou_threshold = iou_threshold
        self.max_detections = positive_integer("max_detections", max_detections)
        # How images are fitted into the size that the model takes, see `fitted_size`.
        self.short_side = short_side and positive_integer("short_side", short_side)
        self.pyramid = _pyramid(backbone)
        self.image_size = backbone.input_shape[1:3]
        # For what is built on the backbone's feature maps.
        self._pyramid_inputs = [
            keras.Input(level.shape[1:], dtype=level.dtype) for level in self.pyramid.outputs
        ]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        box_loss: Any = None,
        classification_loss: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures training; boxes are judged after it, by `evaluate_detector`.

        Args:
            optimizer: as in `keras.Model.compile`.
            box_loss: loss between offsets `(batch, boxes, 4)`. Defaults to `None`: smooth L1.
            classification_loss: loss between class indices `(batch, boxes)`, 0 the background, and
                logits `(batch, boxes, 1 + num_classes)`. Defaults to `None`: cross-entropy.
            **kwargs: of `keras.Model.compile`, except `loss` and `metrics` (ValueError).
        """
        for name in ("loss", "metrics", "weighted_metrics"):
            message = f"A detector takes `box_loss` and `classification_loss`, and no `{name}`."
            require(kwargs.get(name) is None, message, f"{name}={kwargs.get(name)!r}")
        kwargs.update(box_loss=box_loss, classification_loss=classification_loss)
        losses = {}
        for name, default in self._LOSSES.items():
            given = kwargs.pop(f"{name}_loss", None)
            losses[name] = _summed(f"{name}_loss", default if given is None else given)
        super().compile(optimizer, loss=losses, **kwargs)

    def compile_from_config(self, config: dict) -> None:
        config = keras.saving.deserialize_keras_object(config)
        losses = {f"{name}_loss": loss for name, loss in config.pop("loss", {}).items()}
        self.compile(**losses, **config)
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        message = "A detector weighs anchors, and takes no `sample_weight`."
        require(sample_weight is None, message, sample_weight)
        # Keras looks at no label before the loss does.
        _check_labels(y)
        boxes = ops.cast(y["boxes"], "float32")
        # No anchor would learn a box that is no number.
        one_or_nan = ops.where(ops.all(ops.isfinite(boxes)), 1.0, float("nan"))
        targets, predictions, weights = self.targets(boxes, y["classes"], y_pred)
        # TensorFlow adds up the gradients of its devices; their losses are to be averaged.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        weights = {name: one_or_nan * weight / replicas for name, weight in weights.items()}
        return super().compute_loss(
            x=x, y=targets, y_pred=predictions, sample_weight=weights, training=training
        )

    def make_predict_function(self, force: bool = False) -> Any:
        # Non-maximum suppression takes XLA long to compile, and it makes prediction no faster.
        before, self.jit_compile = self.jit_compile, False
        try:
            return super().make_predict_function(force)
        finally:
            self.jit_compile = before

    def predict_step(self, *args: Any) -> Any:
        raw = super().predict_step(*args)
        found = self.decode_predictions(raw)
        # What is no number is above no threshold, and would look as if there was nothing to find.
        sums = [ops.sum(raw[name], axis=range(1, len(raw[name].shape))) for name in self._LOSSES]
        is_sound = ops.isfinite(sum(sums))
        found["confidence"] = ops.where(is_sound[:, None], found["confidence"], float("nan"))
        return found

    def decode_predictions(self, predictions: Any) -> dict[str, Any]:
        """Boxes after non-maximum suppression within each class, of raw predictions.

        Returns:
            Dict, padded with -1: `"boxes"` `(batch, max_detections, 4)`, "xyxy" in pixels;
            `"classes"`, `"confidence"` `(batch, max_detections)`; `"num_detections"` `(batch,)`.
        """
        boxes, probabilities = self.candidates(predictions)
        limits = self.confidence_threshold, self.max_detections
        return suppress_in_classes(boxes, probabilities, self.iou_threshold, *limits)

    def get_config(self) -> dict:
        kinds = type(self).__mro__
        kinds = kinds[: kinds.index(Detector) + 1]
        names = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}
        config = {name: getattr(self, name) for name in sorted(names - {"self", "kwargs"})}
        for name in ("backbone", "attention"):
            if name in config:
                config[name] = keras.saving.serialize_keras_object(config[name])
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "Detector":
        config = {**cls._EARLIER, **config}
        for name in ("backbone", "attention"):
            if isinstance(config.get(name), dict) and "registered_name" in config[name]:
                config[name] = keras.saving.deserialize_keras_object(
                    config[name], custom_objects=custom_objects
                )
        return cls(**config)


def positive_numbers(name: str, values: Any) -> tuple[float, ...]:
    """The numbers of an argument as a tuple of floats; ValueError unless all are positive."""
    is_met = isinstance(values, (tuple, list, np.ndarray))
    is_met = is_met and all(is_number(value) and 0 < value < math.inf for value in values)
    require(is_met, f"`{name}` must be positive numbers.", f"{name}={values!r}")
    return tuple(map(float, values))


def _check_labels(labels):
    labels = labels if isinstance(labels, dict) else {}
    boxes, classes = (
        tuple(getattr(labels.get(name), "shape", ())) for name in ("boxes", "classes")
    )
    is_same = all(None in sides or len(set(sides)) == 1 for sides in zip(boxes, classes))
    require(
        len(boxes) == 3 and boxes[2] == 4 and len(classes) == 2 and is_same,
        "A detector learns from a dict of `boxes` `(batch, boxes, 4)` and `classes` "
        "`(batch, boxes)`, indices, -1 the padding.",
        f"labels {sorted(labels)} of shapes {boxes} and {classes}",
    )


def _pyramid(backbone):
    """A model from images of a known size to a list of feature maps, the finest first."""
    shape = backbone.input_shape
    require(
        not isinstance(shape, list) and len(shape) == 4 and None not in shape[1:],
        "Anchors depend on the size of the images: `backbone` must take one image `(batch, height, "
        "width, channels)` of a known size.",
        f"input_shape={shape!r}",
    )
    levels = feature_levels(backbone)
    require(
        levels,
        "`backbone` must have `pyramid_outputs`: `keras_cbam.detection.detection_backbone` makes "
        "it of any Functional model.",
        f"backbone={backbone!r}",
    )
    return keras.Model(backbone.inputs, list(levels.values()), name="pyramid")


def _summed(name, loss):
    """A copy of the loss that is summed: the weights hold the divisor."""
    found: Any = keras.losses.get(loss) if isinstance(loss, str) else loss
    require(
        isinstance(found, keras.losses.Loss),
        f'`{name}` must be a `keras.losses.Loss` or the name of its class, "Huber" for example.',
        f"{name}={loss!r}",
    )
    return type(found).from_config({**found.get_config(), "reduction": "sum"})
