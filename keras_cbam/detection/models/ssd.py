"""SSD, with attention before the classifiers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_cbam._types import Attention
from keras_cbam.detection.models.base import Detector, positive_numbers
from keras_cbam.detection.models.extra_feature_maps import extra_levels
from keras_cbam.detection.ops import ops
from keras_cbam.detection.ops.anchors import default_boxes
from keras_cbam.detection.ops.boxes import clip_boxes, decode_boxes, encode_boxes
from keras_cbam.detection.ops.matching import first_of, match_boxes
from keras_cbam.errors import one_of, positive_integer, require
from keras_cbam.models.building import with_attention

# The scales of SSD300 on VOC: 30, 60, 111, 162, 213, 264 and 315 of 300 pixels.
SSD300_SCALES = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)


@keras.saving.register_keras_serializable(package="keras_cbam")
class SSD(Detector):
    """Single Shot MultiBox Detector (SSD), with attention right before every classifier.

    Feature maps of the backbone and of further convolutions each predict, at every position, class
    logits and offsets of default boxes. A default box is matched with the box of largest IoU if
    that is at least 0.5, and each box with its best default box. The loss of a batch with N matched
    default boxes is `(cross-entropy + smooth L1 of the offsets) / N`; the cross-entropy is that of
    the matched boxes and of the three times as many worst others of each image.

    Args:
        backbone: backbone for images `(height, width, 3)` of a known size, as `ssd_vgg16`,
            `application_backbone` and `detection_backbone` return.
        num_classes: int, classes without background.
        attention: see `insert_attention`; it refines each feature map that predicts, and does not
            start as an identity. Defaults to `None`.
        extra_filters: tuple of ints, channels of the feature maps after the backbone's: each is a
            1x1 convolution to half of them and a 3x3 one, which halves the size, rounded up.
            Defaults to `(512, 256, 256, 256)`, SSD300's.
        extra_padding: `"same"`, or `"valid"`: from 5 positions down, the 3x3 convolution takes 2
            off instead, as in SSD300. Defaults to `"valid"`.
        scales: tuple of floats, the default boxes' sizes by the shorter side of the image, one more
            than feature maps. Defaults to `None`: SSD300's for six, else even from 0.17 to 1.05.
        aspect_ratios: tuple of tuples of floats above 1, for each feature map; each also stands for
            its inverse. Defaults to `None`: `(2,)` for the last two, `(2, 3)` for others.
        steps: `"authors"`, pixels between default boxes as in the authors' code, see `box_step`; or
            `"even"`, the size of the image by the positions. Defaults to `"authors"`.
        head_kernel_size: int, of the predicting convolutions. Defaults to `3`.
        use_batch_norm: bool, whether the further convolutions are normalized. Defaults to `False`.
        **kwargs: `name`, `dtype`, and those of non-maximum suppression within a class:
            `confidence_threshold=0.01`, `iou_threshold=0.45`, `max_detections=200`; and
            `short_side=None`, how images of other sizes are fitted, see `detection_batches`.

    Call arguments:
        images: tensor `(batch, height, width, 3)`, pixels in [0, 255].

    Returns:
        A dict of float32 tensors, `"box"` `(batch, default boxes, 4)`, offsets, and
        `"classification"` `(batch, default boxes, 1 + num_classes)`, logits, the background first.
        `predict` returns boxes, see `decode_predictions`; for an image whose raw predictions are
        not finite, confidences that are NaN.

    Raises:
        ValueError: if the backbone has no levels or size, or an argument is out of range.

    Example:

    >>> backbone = application_backbone("MobileNet", (96, 96, 3), weights=None, levels=(4, 5))
    >>> model = SSD(backbone, num_classes=10, attention="cbam", extra_filters=(128, 128))
    >>> model.compile("adam")
    >>> model.fit(images, {"boxes": boxes, "classes": classes})  # (n, m, 4) xyxy, (n, m)

    Source: [SSD](https://arxiv.org/abs/1512.02325); [CBAM](https://arxiv.org/abs/1807.06521), 4.5.
    """

    # Those of files that were saved before there was the argument.
    _EARLIER = {"steps": "even"}
    # Negatives that learn for each positive.
    _NEGATIVES = 3
    _POSITIVE_IOU = 0.5

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        attention: Attention = None,
        extra_filters: Sequence[int] = (512, 256, 256, 256),
        extra_padding: str = "valid",
        scales: Sequence[float] | None = None,
        aspect_ratios: Sequence[Sequence[float]] | None = None,
        steps: str = "authors",
        head_kernel_size: int = 3,
        use_batch_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(backbone, num_classes, **kwargs)
        self.attention = attention
        require(
            isinstance(extra_filters, (tuple, list)),
            "`extra_filters` must be a sequence of integers.",
            f"extra_filters={extra_filters!r}",
        )
        self.extra_filters = tuple(positive_integer("extra_filters", n) for n in extra_filters)
        one_of("valid", "same")("extra_padding", extra_padding)
        self.extra_padding = extra_padding
        one_of("authors", "even")("steps", steps)
        self.steps = steps
        self.head_kernel_size = positive_integer("head_kernel_size", head_kernel_size)
        self.use_batch_norm = use_batch_norm
        inputs = self._pyramid_inputs
        levels: list[Any] = inputs + extra_levels(
            inputs[-1], self.extra_filters, extra_padding, self.dtype_policy, use_batch_norm
        )
        self._set_shapes(len(levels), scales, aspect_ratios)
        sizes = [level.shape[1:3] for level in levels]
        self.default_boxes = default_boxes(
            self.image_size, sizes, self.scales, self.aspect_ratios, steps
        )
        head = keras.Model(inputs, self._predicted(self.predicting(levels)), name="head")
        self.head = with_attention(head, attention, r"^source_\d+$")
        self.built = True

    def _set_shapes(self, count, scales, aspect_ratios):
        """Checks and keeps the sizes and shapes of the default boxes of so many feature maps."""
        if scales is None:
            scales = SSD300_SCALES if count == 6 else np.linspace(0.17, 1.05, count + 1)
        if aspect_ratios is None:
            aspect_ratios = [(2,) if i >= count - 2 else (2, 3) for i in range(count)]
        self.scales = positive_numbers("scales", scales)
        self.aspect_ratios = tuple(positive_numbers("aspect_ratios", own) for own in aspect_ratios)
        require(
            len(self.scales) == count + 1 and len(self.aspect_ratios) == count,
            f"There are {count} feature maps: `scales` must have {count + 1} entries and "
            f"`aspect_ratios` {count}.",
            f"scales={self.scales}, aspect_ratios={self.aspect_ratios}",
        )
        is_rising = list(self.scales) == sorted(self.scales)
        require(is_rising, "`scales` must not decrease.", f"scales={self.scales}")

    def predicting(self, levels: Any) -> list:
        """The feature maps that predict, of the backbone's and the further ones."""
        return levels

    def _predicted(self, levels):
        """The raw predictions: for each, the rows of all default boxes of all feature maps."""
        rows = {"box": [], "class": []}
        dtype = self.dtype_policy
        for i, (level, ratios) in enumerate(zip(levels, self.aspect_ratios, strict=True), 1):
            level = keras.layers.Activation("linear", dtype=dtype, name=f"source_{i}")(level)
            # Two squares, and each ratio with its inverse.
            boxes = 2 + 2 * len(ratios)
            for name, values in (("box", 4), ("class", 1 + self.num_classes)):
                options = {"padding": "same", "dtype": dtype, "name": f"{name}_{i}"}
                x = keras.layers.Conv2D(boxes * values, self.head_kernel_size, **options)(level)
                options = {"dtype": "float32", "name": f"{name}_{i}_rows"}
                rows[name].append(keras.layers.Reshape((-1, values), **options)(x))
        rows["classification"] = rows.pop("class")
        return {
            name: keras.layers.Concatenate(axis=1, dtype="float32", name=name)(found)
            for name, found in rows.items()
        }

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        return self.head(self.pyramid(images, training=training), training=training)

    def targets(self, boxes: Any, classes: Any, predictions: Any) -> tuple[dict, dict, dict]:
        matched, classes, is_positive, is_negative = match_boxes(
            self.default_boxes, boxes, classes, self._POSITIVE_IOU, self._POSITIVE_IOU
        )
        positives = ops.sum(ops.cast(is_positive, "int32"), axis=1, keepdims=True)
        logits = ops.stop_gradient(predictions["classification"])
        background_loss = -ops.log_softmax(logits, axis=-1)[..., 0]
        is_hard = first_of(background_loss, is_negative, self._NEGATIVES * positives)
        divisor = ops.cast(ops.maximum(ops.sum(positives), 1), "float32")
        targets = {
            "box": encode_boxes(matched, self.default_boxes),
            "classification": ops.where(is_positive, classes + 1, 0),
        }
        weights = {
            # The loss is the mean of the four offsets, the paper's their sum.
            "box": 4.0 * ops.cast(is_positive, "float32") / divisor,
            "classification": ops.cast(is_positive | is_hard, "float32") / divisor,
        }
        return targets, predictions, weights

    def candidates(self, predictions: Any) -> tuple[Any, Any]:
        boxes = decode_boxes(predictions["box"], self.default_boxes)
        probabilities = ops.softmax(predictions["classification"], axis=-1)[..., 1:]
        return clip_boxes(boxes, *self.image_size), probabilities
