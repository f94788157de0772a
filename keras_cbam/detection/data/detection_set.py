"""Images with boxes, as every reader gives them and everything else takes them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cbam.data.image_sources import ArrayImages
from keras_cbam.data.labelled_images import DataInParts, labels_by_name
from keras_cbam.detection.data.sized_images import SizedImages
from keras_cbam.errors import printable


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionSet:
    """Images, and in each the boxes of the objects to find.

    Attributes:
        name: string, what the set is called.
        class_names: list of strings.
        images: uint8 RGB `(height, width, 3)` each: an array, a list, or `SizedImages`.
        sizes: int array `(images, 2)`, height and width in pixels.
        boxes: list of float32 arrays `(boxes, 4)`: left, top, right and bottom edge in pixels.
        classes: list of int32 arrays `(boxes,)`, indices into `class_names`.
        ignored: list of bool arrays `(boxes,)`: COCO's crowds and VOC's difficult objects, which
            are not trained on; what finds them counts neither for nor against a detector.
        areas: list of float32 arrays `(boxes,)`, of the objects (not their boxes) in square pixels,
            by which COCO tells small, medium and large ones.
        image_ids: list of what the data call the images, strings or ints.
        skipped: dict `{reason: count}` of what was left out or mended.
        unreadable: list of lines `"path: reason"` on images, none if not given.
    """

    name: str
    class_names: list
    images: Any
    sizes: np.ndarray
    boxes: list
    classes: list
    ignored: list
    areas: list
    image_ids: list
    skipped: dict
    unreadable: list = dataclasses.field(default_factory=list)

    def __len__(self):
        return len(self.boxes)

    @property
    def source(self) -> ArrayImages | SizedImages:
        """The images, to be read in batches."""
        return self.images if isinstance(self.images, SizedImages) else ArrayImages(self.images)

    def select(self, indices: Any) -> "DetectionSet":
        """The `DetectionSet` of the images with these indices."""
        indices = np.asarray(indices, "int64")
        if isinstance(self.images, SizedImages):
            images = self.images.select(indices)
        else:
            is_array = isinstance(self.images, np.ndarray)
            images = self.images[indices] if is_array else [self.images[i] for i in indices]
        per_image = {
            name: [getattr(self, name)[i] for i in indices]
            for name in ("boxes", "classes", "ignored", "areas", "image_ids")
        }
        return dataclasses.replace(self, images=images, sizes=self.sizes[indices], **per_image)

    def columns(self) -> list[np.ndarray]:
        """The arrays that tell these boxes from others."""
        return [self.sizes, *self.boxes, *self.classes, *self.ignored]

    def readable(self) -> "DetectionSet":
        """The `DetectionSet` without the images that could not be used so far."""
        failures = self.source.failures
        return self.select([i for i in range(len(self)) if i not in failures]) if failures else self

    def all_skipped(self) -> list[str]:
        """Lines on what was left out or mended, and on images that could not be used so far."""
        counts = [f"{count} {reason}" for reason, count in self.skipped.items()]
        return [*counts, *self.unreadable, *self.source.failure_lines()]

    def with_classes(self, class_names: Sequence[str]) -> "DetectionSet":
        """The same images and boxes with a model's (printable) classes; DataError if some lack."""
        used = np.unique(np.concatenate(self.classes))
        index = np.full(len(self.class_names), -1, "int32")
        names = [printable(self.class_names[i]) for i in used]
        index[used] = labels_by_name(names, class_names, self.name)
        classes = [index[own] for own in self.classes]
        return dataclasses.replace(self, class_names=list(class_names), classes=classes)


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionData(DataInParts):
    """Images with boxes in parts, of the same classes.

    Attributes:
        train, validation, test: `DetectionSet`s to train on, to measure after each epoch, and at
            the end. The last two are one object where the data have two parts.
    """

    train: DetectionSet
    validation: DetectionSet
    test: DetectionSet

    @property
    def name(self) -> str:
        return self.train.name

    @property
    def class_names(self) -> list[str]:
        return self.train.class_names

    def all_skipped(self) -> list[str]:
        """Lines on what was left out or mended in each part."""
        parts = self.parts().items()
        return [f"{name}: {line}" for name, part in parts for line in part.all_skipped()]
