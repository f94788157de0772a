"""Faster R-CNN with a feature pyramid."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_cbam.detection.models import faster_rcnn_regions as stages
from keras_cbam.detection.models.backbone_of_any_model import feature_levels
from keras_cbam.detection.models.base import Detector, positive_numbers
from keras_cbam.detection.models.extra_feature_maps import feature_pyramid
from keras_cbam.detection.ops import ops
from keras_cbam.detection.ops.anchors import level_anchors
from keras_cbam.detection.ops.boxes import VARIANCES, clip_boxes, decode_boxes
from keras_cbam.detection.ops.roi_align import roi_align
from keras_cbam.errors import positive_integer, require


@keras.saving.register_keras_serializable(package="keras_cbam")
class FasterRCNN(Detector):
    """Faster R-CNN on a feature pyramid; the attention is in the backbone's blocks.

    A region proposal network rates and moves anchors; the best after non-maximum suppression are
    pooled from the feature maps (ROIAlign), classified, and moved once more. Anchors are positive
    from an IoU of 0.7 with a box on, or where theirs is the largest with one, and negative below
    0.3; proposals are positive from 0.5 on. The loss is the sum of four means: cross-entropies over
    the sampled anchors and proposals, and smooth L1, with a beta of 1/9, of the positive ones' four
    offsets, as torchvision has them. `compile` also takes `rpn_box_loss` and
    `rpn_classification_loss`, of the anchors.

    Args:
        backbone: backbone for images of a known size, with consecutive pyramid levels, see
            `detection_backbone`. With one there is no pyramid.
        num_classes: int, classes without background.
        filters: int, channels of the pyramid. Defaults to `256`.
        anchor_scale: float, size of a level's anchors by its stride. Defaults to `8.0`.
        aspect_ratios: floats, width by height of the anchors. Defaults to `(0.5, 1.0, 2.0)`.
        num_proposals: tuple of two ints: proposals after non-maximum suppression in training and in
            inference. Defaults to `(1000, 300)`.
        sampled_anchors, sampled_proposals: ints, those of an image that learn, up to a half and a
            quarter of them positive. Default to `256` and `128`.
        head_units: int, units of the two fully connected layers. Defaults to `1024`.
        use_layer_norm: bool, whether these are normalized. Without it, many units can get stuck at
            zero, from random weights with Adam at rates from 1e-3 on. Defaults to `False`.
        rpn_variances: four floats that the offsets from anchors are divided by, see `encode_boxes`.
            Defaults to `(1.0, 1.0, 1.0, 1.0)`.
        seed: int, of the samples. Defaults to `None`: random.
        **kwargs: see `SSD`, as for the arguments of a call.

    Returns:
        A dict of raw predictions. `predict` returns boxes, see `decode_predictions`.

    Raises:
        ValueError: if the backbone or an argument is not as above.

    Example:

    >>> backbone = application_backbone("ResNet50", (256, 256, 3), "cbam", levels=(2, 3, 4, 5))
    >>> model = FasterRCNN(backbone, num_classes=20)

    Source: [Faster R-CNN](https://arxiv.org/abs/1506.01497), section 3; [Feature Pyramid Networks](
    https://arxiv.org/abs/1612.03144), 4; [CBAM](https://arxiv.org/abs/1807.06521), 4.4.
    """

    # Those of files that were saved before there was the argument.
    _EARLIER = {"rpn_variances": VARIANCES}
    _LOSSES = {
        **Detector._LOSSES,
        "box": stages.SmoothL1(),
        "rpn_box": stages.SmoothL1(),
        "rpn_classification": keras.losses.BinaryCrossentropy(from_logits=True),
    }
    _PROPOSAL_IOU = 0.7
    _CELLS = 7

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        filters: int = 256,
        anchor_scale: float = 8.0,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        num_proposals: tuple[int, int] = (1000, 300),
        sampled_anchors: int = 256,
        sampled_proposals: int = 128,
        head_units: int = 1024,
        use_layer_norm: bool = False,
        rpn_variances: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(backbone, num_classes, **kwargs)
        self.filters = positive_integer("filters", filters)
        (self.anchor_scale,) = positive_numbers("anchor_scale", (anchor_scale,))
        self.aspect_ratios = positive_numbers("aspect_ratios", aspect_ratios)
        require(self.aspect_ratios, "`aspect_ratios` must have an entry.", "aspect_ratios=()")
        require(
            isinstance(num_proposals, (tuple, list)) and len(num_proposals) == 2,
            "`num_proposals` must be two integers, in training and in inference.",
            f"num_proposals={num_proposals!r}",
        )
        self.num_proposals = tuple(positive_integer("num_proposals", n) for n in num_proposals)
        self.sampled_anchors = positive_integer("sampled_anchors", sampled_anchors)
        self.sampled_proposals = positive_integer("sampled_proposals", sampled_proposals)
        self.head_units = positive_integer("head_units", head_units)
        self.use_layer_norm = bool(use_layer_norm)
        self.rpn_variances = positive_numbers("rpn_variances", rpn_variances)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        numbers = list(feature_levels(backbone))
        is_whole = numbers == list(range(numbers[0], numbers[-1] + 1))
        message = "The pyramid levels of `backbone` must be consecutive."
        require(is_whole, message, f"levels {numbers}")
        inputs = self._pyramid_inputs
        levels = feature_pyramid(inputs, self.filters, self.dtype_policy)
        self.neck = keras.Model(inputs, levels, name="neck")
        self.strides = [2 ** (numbers[0] + i) for i in range(len(levels))]
        sizes = [level.shape[1:3] for level in levels]
        self.anchors = level_anchors(
            self.image_size, self.strides, sizes, anchor_scale, self.aspect_ratios
        )
        self.region_proposal = stages.region_proposal_network(
            self.filters, len(self.aspect_ratios), self.dtype_policy
        )
        cells = (self._CELLS, self._CELLS, self.filters)
        self.head = stages.region_head(
            cells, self.num_classes, self.head_units, self.use_layer_norm, self.dtype_policy
        )
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> dict[str, Any]:
        features = self.neck(self.pyramid(images, training=training), training=training)
        features = features if isinstance(features, (list, tuple)) else [features]
        found = [self.region_proposal(level, training=training) for level in features]
        offsets, logits = ([level[name] for level in found] for name in ("offsets", "objectness"))
        boxes = [
            clip_boxes(decode_boxes(own, anchors, self.rpn_variances), *self.image_size)
            for own, anchors in zip(offsets, self.anchors, strict=True)
        ]
        count = self.num_proposals[0 if training else 1]
        proposals, is_proposal = stages.select_proposals(boxes, logits, count, self._PROPOSAL_IOU)
        return {
            "features": features,
            "proposals": proposals,
            "is_proposal": is_proposal,
            "rpn_box": ops.concatenate(offsets, axis=1),
            "rpn_classification": ops.concatenate(logits, axis=1),
            **({} if training else self._classified(features, proposals)),
        }

    def _classified(self, features, boxes):
        count = boxes.shape[1]
        # The level on top is for proposals only.
        pooled = max(1, len(features) - 1)
        regions = roi_align(features[:pooled], boxes, self.strides[:pooled], self._CELLS)
        outputs = self.head(ops.reshape(regions, (-1, *regions.shape[2:])))
        offsets = ops.reshape(outputs["box"], (-1, count, self.num_classes, 4))
        logits = ops.reshape(outputs["classification"], (-1, count, 1 + self.num_classes))
        return {"box": offsets, "classification": logits}

    def targets(self, boxes: Any, classes: Any, predictions: Any) -> tuple[dict, dict, dict]:
        truth, anchors, seed = (boxes, classes), np.concatenate(self.anchors), self.seed_generator
        rpn_targets, rpn_weights = stages.anchor_targets(
            anchors, *truth, self.sampled_anchors, seed, self.rpn_variances
        )
        proposals = predictions["proposals"], predictions["is_proposal"]
        regions, head_targets, head_weights = stages.proposal_targets(
            *proposals, *truth, self.sampled_proposals, seed
        )
        found = self._classified(predictions["features"], regions)
        # Of the offsets of all classes, those of the true one.
        index = ops.maximum(head_targets["classification"] - 1, 0)[..., None, None]
        found["box"] = ops.squeeze(ops.take_along_axis(found["box"], index, axis=2), axis=2)
        raw = {name: predictions[name] for name in ("rpn_box", "rpn_classification")}
        return {**rpn_targets, **head_targets}, {**raw, **found}, {**rpn_weights, **head_weights}

    def candidates(self, predictions: Any) -> tuple[Any, Any]:
        boxes = decode_boxes(predictions["box"], predictions["proposals"][:, :, None, :])
        probabilities = ops.softmax(predictions["classification"], axis=-1)[..., 1:]
        is_proposal = ops.cast(predictions["is_proposal"], probabilities.dtype)
        return clip_boxes(boxes, *self.image_size), probabilities * is_proposal[..., None]
