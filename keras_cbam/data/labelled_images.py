"""Labelled images in parts: to train on, to validate with, and to test with."""

import dataclasses
import hashlib
import os
import typing

import numpy as np

from keras_cbam.data.image_sources import ArrayImages, FileImages
from keras_cbam.errors import DataError, quoted

# The one part of data that have no parts.
WHOLE = "whole"
KINDS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """One part of the data.

    Attributes:
        images: `FileImages` or `ArrayImages`.
        labels: int32 array `(images,)`, indices into the names of the classes.
    """

    images: ArrayImages | FileImages
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def select(self, indices: np.ndarray) -> "LabelledImages":
        """The `LabelledImages` of an int array of indices."""
        return LabelledImages(self.images.select(indices), self.labels[indices])

    def columns(self) -> list[np.ndarray]:
        """The arrays that tell these labels from others."""
        return [self.labels]

    @property
    def source(self) -> ArrayImages | FileImages:
        """The images, to be read in batches."""
        return self.images

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels as arrays, without the images that cannot be decoded."""
        pixels, kept = self.images.read(np.arange(len(self)))
        return pixels, self.labels[kept]


class DataInParts:
    """What data for classifiers and for detectors have in common.

    They have a `name`, `class_names`, and the parts `train`, `validation` and `test`: images with a
    `source` and `columns`, as `LabelledImages` has. The last two parts are one object where the
    data have two parts.
    """

    name: str
    class_names: list[str]
    train: typing.Any
    validation: typing.Any
    test: typing.Any

    def all_skipped(self) -> list[str]:
        """Lines on what was left out or mended."""
        raise NotImplementedError

    def parts(self) -> dict[str, typing.Any]:
        """`{name: part}`, each part once."""
        validation = {} if self.validation is self.test else {"validation": self.validation}
        return {"train": self.train, **validation, "test": self.test}

    def sources(self) -> list[typing.Any]:
        """The image sources of all parts, for `reading`."""
        return [part.source for part in self.parts().values()]

    def identity(self) -> str:
        """A digest in hex that differs for other labels or images, wherever they lie."""
        parts = self.parts().values()
        paths = [path for part in parts for path in getattr(part.images, "paths", ())]
        root = os.path.commonpath(map(os.path.dirname, paths)) if paths else ""
        digest = hashlib.sha256(repr(self.class_names).encode())
        for part in parts:
            for column in part.columns():
                digest.update(np.ascontiguousarray(column).tobytes())
            for fact in part.source.facts(root or "."):
                digest.update(fact)
        return digest.hexdigest()

    def describe(self) -> dict[str, typing.Any]:
        """What the report of a training says of the data."""
        return {
            "name": self.name,
            "training_images": len(self.train),
            "validation_images": len(self.validation),
            "test_images": len(self.test),
            # Where it is the test part, the best epoch is one of the test images' own.
            "validation_part": "test" if self.validation is self.test else "validation",
            "class_names": self.class_names,
            "digest": self.identity(),
            "skipped": self.all_skipped(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData(DataInParts):
    """Labelled images to train a classifier on.

    Attributes:
        name: string, what the data are called.
        train: `LabelledImages`.
        validation: `LabelledImages`, measured after each epoch.
        test: `LabelledImages`, measured at the end: `validation` itself where there are two parts.
        class_names: list of strings.
        skipped: list of lines `"path: reason"` on what was left out when the data were loaded.
    """

    name: str
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    class_names: list[str]
    skipped: list[str]

    def all_skipped(self) -> list[str]:
        """`skipped`, and a line for each image that could not be decoded so far."""
        return [*self.skipped, *(line for one in self.sources() for line in one.failure_lines())]


def labels_by_name(names, class_names, path):
    """The int32 indices of names, which are from `path`, among the names of the classes."""
    index = {name: label for label, name in enumerate(class_names)}
    for name in names:
        if name not in index:
            shown = ", ".join(map(repr, class_names[:10])) + ", ..." * (len(class_names) > 10)
            raise DataError(
                f"The class {name!r} of {quoted(path)} is not one of the {len(class_names)} "
                f"classes of the training, {shown}."
            )
    return np.array([index[name] for name in names], "int32")


def split_off(part, class_names, seed, test_fraction, path):
    """Draws a fraction of each class, by the seed, for testing; returns training and test part."""
    counts = np.bincount(part.labels, minlength=len(class_names))
    if counts.min() < 2:
        raise DataError(
            f"The class {class_names[counts.argmin()]!r} of {quoted(path)} must have at least 2 "
            f"images, one to train on and one to test on, received {counts.min()}."
        )
    generator = np.random.default_rng(seed)
    is_test = np.zeros(len(part), bool)
    by_class = np.split(np.argsort(part.labels, kind="stable"), np.cumsum(counts)[:-1])
    for members in by_class:
        size = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
        is_test[generator.permutation(members)[:size]] = True
    return part.select(np.flatnonzero(~is_test)), part.select(np.flatnonzero(is_test))
