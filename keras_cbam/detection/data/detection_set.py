"""Pictures with boxes, as every reader gives them and everything else takes them."""

import collections
import contextlib
import dataclasses
import os
import pathlib

import numpy as np

from keras_cbam.data.image_files import check_headers, open_picture, why_unreadable
from keras_cbam.errors import DataError, quoted


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionSet:
    """Pictures, and in each the boxes of the objects to find.

    Attributes:
        name: string, what the set is called.
        class_names: list of strings.
        pictures: sequence of uint8 arrays `(height, width, 3)`, RGB: an array, or `FilePictures`,
            which decode a picture when it is asked for.
        sizes: int array `(pictures, 2)`, height and width in pixels.
        boxes: list with a float32 array `(boxes, 4)` for each picture: left, top, right and bottom
            edge in pixels, of which 0 is the left or top edge of the picture. A picture may have
            none.
        classes: list of int32 arrays `(boxes,)`, indices into `class_names`.
        ignored: list of bool arrays `(boxes,)`: COCO's crowds and VOC's difficult objects. They
            are not trained on, and what finds them counts neither for nor against a detector.
        areas: list of float32 arrays `(boxes,)`, of the objects in square pixels, by which COCO
            tells small, medium and large ones. An object does not fill its box.
        image_ids: list of what the data call the pictures, strings or ints.
        skipped: dict `{reason: count}` of what was left out or mended.
    """

    name: str
    class_names: list
    pictures: object
    sizes: np.ndarray
    boxes: list
    classes: list
    ignored: list
    areas: list
    image_ids: list
    skipped: dict

    def __len__(self):
        return len(self.boxes)

    def select(self, index):
        """The `DetectionSet` of some of the pictures.

        Args:
            index: int array `(selected,)`.
        """
        per_picture = {
            name: [getattr(self, name)[i] for i in index]
            for name in ("boxes", "classes", "ignored", "areas", "image_ids")
        }
        index = np.asarray(index, "int64")
        return dataclasses.replace(
            self, pictures=self.pictures[index], sizes=self.sizes[index], **per_picture
        )


@dataclasses.dataclass(frozen=True, eq=False)
class DetectionData:
    """A `DetectionSet` to train on and one to test on, of the same classes.

    Attributes:
        train: `DetectionSet`.
        test: `DetectionSet`.
    """

    train: DetectionSet
    test: DetectionSet

    @property
    def name(self):
        return self.train.name

    @property
    def class_names(self):
        return self.train.class_names


class FilePictures:
    """Picture files, decoded when they are asked for: uint8 arrays `(height, width, 3)`.

    Args:
        paths: list of strings.
        sizes: int array `(pictures, 2)`, the height and width that the annotations are about.

    Attributes:
        failure: `None`, or a sentence on the picture that could not be read last.
    """

    def __init__(self, paths, sizes):
        self.paths = paths
        self.sizes = sizes
        self.failure = None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        if isinstance(index, np.ndarray):
            return FilePictures([self.paths[i] for i in index], self.sizes[index])
        with self._keeping_failure(index):
            try:
                image = open_picture(self.paths[index]).convert("RGB")
            except Exception as error:
                # Pillow raises any of a dozen kinds on damaged files.
                raise DataError(
                    f"The picture {quoted(self.paths[index])} cannot be read: "
                    f"{why_unreadable(error)}."
                ) from error
            if image.size[::-1] != tuple(self.sizes[index]):
                height, width = self.sizes[index]
                raise DataError(
                    f"The picture {quoted(self.paths[index])} must be {width} pixels wide and "
                    f"{height} high, as its boxes are for, received {image.width} and "
                    f"{image.height}."
                )
            return np.asarray(image)

    @contextlib.contextmanager
    def _keeping_failure(self, index):
        try:
            yield
        except DataError as error:
            self.failure = str(error)
            raise


class Collector:
    """Gathers the pictures of one folder into a `DetectionSet`, and counts what is left out.

    Args:
        root: string, path of the data folder, out of which no path and no link may lead.
    """

    def __init__(self, root):
        self.root = pathlib.Path(os.path.realpath(root))
        self.skipped = collections.Counter()
        self._rows = []

    def inside(self, folder, name, suffix=""):
        """The path of a file of the data; `None`, with a count, if there is none in `root`."""
        path = os.path.join(folder, f"{name}{suffix}")
        try:
            is_inside = pathlib.Path(os.path.realpath(path)).is_relative_to(self.root)
        except ValueError:
            # The name of no file: it has a null byte, or cannot be encoded.
            is_inside = True
        if not is_inside:
            self.skipped["paths that lead outside the folder"] += 1
        elif os.path.isfile(path):
            return path
        else:
            kind = "annotation files" if suffix == ".xml" else "pictures"
            self.skipped[f"missing {kind}"] += 1
        return None

    def add(self, path, size, image_id, boxes, classes, ignored, areas):
        """A picture with its boxes, which are clipped to it.

        Args:
            path: string.
            size: pair of ints, height and width.
            image_id: what the data call the picture.
            boxes: list of `(left, top, right, bottom)`, in pixels.
            classes: list of whatever stands for a class.
            ignored: list of bools.
            areas: list of floats, or `None`: those of the clipped boxes.
        """
        boxes = np.array(boxes, "float64").reshape(-1, 4)
        height, width = size
        clipped = np.clip(boxes, 0, [width, height, width, height])
        is_kept = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        is_empty = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
        for reason, mask in (
            ("zero-area boxes", is_empty),
            ("boxes outside the picture", ~is_empty & ~is_kept),
            ("boxes clipped to the picture", is_kept & (clipped != boxes).any(axis=1)),
        ):
            self.skipped[reason] += int(mask.sum())
        sides = (clipped[:, 2:] - clipped[:, :2]).astype("float32")
        areas = sides.prod(axis=1) if areas is None else np.array(areas, "float32")
        self._rows.append(
            (
                path,
                size,
                image_id,
                clipped[is_kept].astype("float32"),
                [name for name, kept in zip(classes, is_kept) if kept],
                np.array(ignored, bool)[is_kept],
                areas[is_kept],
            )
        )

    def class_names(self):
        return sorted({name for row in self._rows for name in row[4]})

    def collect(self, name, class_names, where):
        """The `DetectionSet` of what was added.

        Args:
            name: string, what the set is called.
            class_names: dict `{what stands for a class: name}`, in their order. Boxes of other
                classes are left out and counted.
            where: string, path of what was read, for the message of an error.

        Raises:
            DataError: if no picture is left.
        """
        index = {key: i for i, key in enumerate(class_names)}
        reasons = check_headers([row[0] for row in self._rows])
        self.skipped["unreadable pictures"] += sum(why is not None for why in reasons)
        rows = []
        for (*start, boxes, classes, ignored, areas), why in zip(self._rows, reasons):
            if why is None:
                known = np.array([key in index for key in classes], bool)
                classes = np.array([index.get(key, -1) for key in classes], "int32")
                self.skipped["boxes of unknown classes"] += int((~known).sum())
                rows.append((*start, boxes[known], classes[known], ignored[known], areas[known]))
        skipped = {reason: count for reason, count in self.skipped.items() if count}
        if not rows:
            received = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
            raise DataError(
                f"{quoted(where)} must have readable pictures, received none"
                f"{f' ({received})' if received else ''}."
            )
        paths, sizes, image_ids, boxes, classes, ignored, areas = map(list, zip(*rows))
        sizes = np.array(sizes, "int64")
        pictures = FilePictures(paths, sizes)
        names = list(class_names.values())
        columns = (boxes, classes, ignored, areas, image_ids)
        return DetectionSet(name, names, pictures, sizes, *columns, skipped)
