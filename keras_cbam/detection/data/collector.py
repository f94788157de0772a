"""Gathers what the annotations of a folder say into a `DetectionSet`."""

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cbam.data.image_files import check_headers
from keras_cbam.data.image_sources import stop_if_too_many
from keras_cbam.detection.data.detection_set import DetectionData, DetectionSet
from keras_cbam.detection.data.sized_images import SizedImages
from keras_cbam.errors import DataError, printable, quoted

# What to train on, to validate with and to test on; of three `None`, what the folder has.
Splits = Sequence[str | None]


class Collector:
    """Gathers images of a folder, which no path may lead out of, and counts what is left out."""

    def __init__(self, root: str, strict: bool):
        self.strict = strict
        self.root = pathlib.Path(os.path.realpath(root))
        self.skipped = collections.Counter()
        self.unreadable = []
        self._rows, self._seen = [], set()

    def is_new(self, key: str) -> bool:
        """Whether an image was not listed before; counts it if it was."""
        self.skipped["images listed before"] += key in self._seen
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def inside(self, folder: str, name: str) -> str | None:
        """The path of a file of the data; `None`, with a count, if there is none in `root`."""
        path = os.path.join(folder, name)
        try:
            is_inside = pathlib.Path(os.path.realpath(path)).is_relative_to(self.root)
        except ValueError:
            # The name of no file: it has a null byte, or cannot be encoded.
            is_inside = True
        if is_inside and os.path.isfile(path):
            return path
        kind = "annotation files" if name.endswith(".xml") else "images"
        reason = f"missing {kind}" if is_inside else "paths that lead outside the folder"
        self.skipped[reason] += 1
        return None

    def add(self, path, size, image_id, boxes, classes, ignored, areas=None):
        """Adds an image of `(height, width)`; its boxes are clipped, their areas the default."""
        boxes = np.array(boxes, "float64").reshape(-1, 4)
        height, width = size
        clipped = np.clip(boxes, 0, [width, height, width, height])
        is_kept = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        is_empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
        for reason, mask in (
            ("zero-area boxes", is_empty),
            ("boxes outside the image", ~is_empty & ~is_kept),
            ("boxes clipped to the image", is_kept & (clipped != boxes).any(axis=1)),
        ):
            self.skipped[reason] += int(mask.sum())
        if areas is None:
            areas = (clipped[:, 2:] - clipped[:, :2]).astype("float32").prod(axis=1)
        columns = {"boxes": clipped.astype("float32"), "classes": np.array(classes, object)}
        columns |= {"ignored": np.array(ignored, bool), "areas": np.array(areas, "float32")}
        row = {"paths": path, "sizes": size, "image_ids": image_id}
        self._rows.append(row | {name: column[is_kept] for name, column in columns.items()})

    def class_names(self) -> list[str]:
        return sorted({name for row in self._rows for name in row["classes"]})

    def collect(self, name: str, class_names: dict[Any, str], where: str) -> DetectionSet:
        """The `DetectionSet`, of `{class in the data: name}`; DataError if no image is left."""
        index = {key: i for i, key in enumerate(class_names)}
        images, rows = len(self._rows) + len(self.unreadable), []
        for row, why in zip(self._rows, check_headers([row["paths"] for row in self._rows])):
            if why is not None:
                self.unreadable.append(f"{printable(row['paths'])}: {why}")
                continue
            row["classes"] = np.array([index.get(key, -1) for key in row["classes"]], "int32")
            known = row["classes"] >= 0
            self.skipped["boxes of unknown classes"] += int((~known).sum())
            per_box = ("boxes", "classes", "ignored", "areas")
            rows.append(row | {name: row[name][known] for name in per_box})
        stop_if_too_many(self.unreadable, images, self.strict)
        skipped = {reason: count for reason, count in self.skipped.items() if count}
        if not rows:
            raise DataError(f"{quoted(where)} must have readable images, {_none(skipped)}.")
        found = {name: [row[name] for row in rows] for name in rows[0]}
        sizes = np.array(found.pop("sizes"), "int64")
        return DetectionSet(
            name=name,
            class_names=list(class_names.values()),
            images=SizedImages(found.pop("paths"), sizes, self.strict),
            sizes=sizes,
            skipped=skipped,
            unreadable=self.unreadable,
            **found,
        )


def in_parts(parts: list[DetectionSet], folder: str, splits: Splits) -> DetectionData:
    """The parts of three splits, some of which may be `None`; DataError if they do not suffice."""
    if not any(splits[1:]):
        raise DataError(
            f"{quoted(folder)} must have a part to test on, received none: where one split is "
            "named, no other is looked for."
        )
    if not splits[0]:
        parts = [parts[0].select([]), *parts]
    elif not any(map(len, parts[0].boxes)):
        raise DataError(
            f"The training part of {quoted(folder)} must have boxes, {_none(parts[0].skipped)}."
        )
    return DetectionData(parts[0], parts[1], parts[-1])


def _none(skipped):
    """The end of a message on what is missing: what was left out of it."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
    return f"received none ({reasons})" if reasons else "received none"
