"""Folders in COCO's layout."""

import collections
import dataclasses
import functools
import glob
import hashlib
import json
import math
import os

import numpy as np

from keras_cbam.detection.data.collector import Collector, Splits, in_parts
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.errors import DataError, first_line, is_number, number, printable, quoted

_PREFIX = "instances_"
# Numbers beyond are a damaged file's.
_LARGEST = 1e9
_KEYS = ("category_id", "bbox", "area", "iscrowd")


def coco_folder(
    folder: str | os.PathLike,
    seed: int = 0,
    test_fraction: float | None = 0.2,
    strict: bool = False,
    splits: Splits = (None, None, None),
) -> DetectionData:
    """Images and boxes of a folder in COCO's layout.

    Boxes are clipped to their image. What cannot be used is left out and counted in
    `DetectionSet.skipped`: boxes without an area, outside the image, malformed, or of unknown
    classes or images; images that are missing, outside the folder, or listed before. Images that
    cannot be read are in `DetectionSet.unreadable`. An `area` that is no positive number becomes
    that of the box. Images without boxes stay in.

    Args:
        folder: path of a folder with

            - `annotations/instances_{train,val}*.json` and, to test on, `instances_test*.json` if
              there is one; the images are in folders named as what follows `instances_`. Without
              the first there is nothing to train on, and the rest can be measured on; or
            - `annotations.json`, and the images in `images`, of which a part is split off for
              testing. What is left out is counted in the training part.
        seed: int, of the split. Defaults to `0`.
        test_fraction: float in (0, 1), the part that is split off, at least one image and not
            all; or `None`: each part is the whole. Defaults to `0.2`.
        strict: see `SizedImages`. Defaults to `False`.
        splits: what to train on, to validate with and to test on: a JSON file in the folder (or an
            absolute path) and, after a colon, the folder of its images, of several joined by `+`:
            `"annotations/instances_train2014.json:train2014"`. Without a colon it is called what
            follows `instances_`, or else `images`. Defaults to those above.

    Returns:
        `DetectionData`. The classes are in the order of their category ids.

    Raises:
        DataError: if the folder cannot be used.
        ValueError: if `test_fraction` is outside its range.

    Example:

    >>> coco_folder("coco").train.skipped
    {'boxes clipped to the image': 12}
    """
    if test_fraction is not None:
        number(below=1, open_below=True)("test_fraction", test_fraction)
    folder = os.fspath(folder)
    name = printable(os.path.basename(os.path.abspath(folder)))
    single = os.path.join(folder, "annotations.json")
    if any(splits):
        parts = [_files(folder, split) for split in splits if split]
    elif os.path.isfile(single):
        whole = _read(folder, [(single, "images")], name, strict)
        if test_fraction is None:
            return DetectionData(whole, whole, whole)
        return _split(whole, folder, seed, test_fraction)
    else:
        splits = [_find(folder, part) for part in ("train", "val", "test")]
        parts = [[(path, _images_of(path))] for path in splits if path]
        if not any(splits[1:]):
            raise DataError(
                f"The folder {quoted(folder)} must have a file 'annotations/{_PREFIX}val*.json' or "
                f"'{_PREFIX}test*.json', received none."
            )
    parts = [_read(folder, files, name, strict) for files in parts]
    for part in parts[1:]:
        _check_same(parts[0].class_names, part.class_names, folder)
    return in_parts(parts, folder, splits)


def _check_same(names, others, folder):
    if names != others:
        odd = sorted(set(names) ^ set(others))
        raise DataError(
            f"The parts of {quoted(folder)} must have the same categories, received "
            f"{f'{odd[0]!r} not in all' if odd else 'another order of them'}."
        )


def _images_of(path):
    """The name of the folder of the images of annotations."""
    name = os.path.basename(path).removesuffix(".json")
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else "images"


def _files(folder, split):
    """The annotations of a split and the folders of their images."""
    found = []
    for one in split.split("+"):
        path, _, images = one.strip().partition(":")
        found.append((os.path.join(folder, path), images or _images_of(path)))
    return found


def _find(folder, part):
    """The path of the annotations of a part, `None` if there is none."""
    pattern = os.path.join(glob.escape(folder), "annotations", f"{_PREFIX}{part}*.json")
    paths = glob.glob(pattern)
    if len(paths) > 1:
        raise DataError(
            f"The folder {quoted(folder)} must have one file "
            f"'annotations/{_PREFIX}{part}*.json', received {len(paths)}: name the splits."
        )
    return paths[0] if paths else None


def _split(whole, folder, seed, test_fraction):
    images = len(whole)
    if images < 2:
        raise DataError(
            f"{quoted(folder)} must have at least 2 images, one to train on and one to test on, "
            "received 1."
        )
    size = min(max(round(test_fraction * images), 1), images - 1)
    order = np.random.default_rng(seed).permutation(images)
    train, test = (whole.select(np.sort(part)) for part in (order[size:], order[:size]))
    test = dataclasses.replace(test, skipped={}, unreadable=[])
    return in_parts([train, test], folder, ("train", "test"))


def _read(folder, files, name, strict):
    collector, categories = Collector(folder, strict), {}
    for path, images in files:
        found, listed, boxes = _index(path, collector.skipped)
        _check_same(list((categories or found).items()), list(found.items()), folder)
        categories = found
        for image_id, image in listed.items():
            own = boxes.get(image_id, [])
            _add(collector, os.path.join(folder, images), image_id, image, own)
    return collector.collect(name, categories, files[0][0])


def _add(collector, folder, image_id, image, annotations):
    skipped = collector.skipped
    size = image.get("height"), image.get("width")
    # Some programs write 640.0.
    is_sound = all(_is_finite(n) and n > 0 and n == int(n) for n in size)
    if not is_sound or not isinstance(image.get("file_name"), str):
        skipped["malformed images"] += 1
        return
    file = collector.inside(folder, image["file_name"])
    if file is None or not collector.is_new(file):
        return
    sound = [one for one in annotations if _is_box(one)]
    skipped["malformed boxes"] += len(annotations) - len(sound)
    boxes = np.array([one["bbox"] for one in sound], "float64").reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = [one["category_id"] for one in sound]
    ignored = [one.get("iscrowd", 0) for one in sound]
    areas = [_area(one, skipped) for one in sound]
    collector.add(file, tuple(map(int, size)), image_id, boxes, classes, ignored, areas)


def _index(path, skipped):
    """The categories of a file, `{id: name}` in order, its images by id, and the boxes of each."""
    try:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        names, images, boxes, listed = _parsed(path, content)
    except (OSError, RecursionError) as error:
        raise DataError(f"{quoted(path)} cannot be read: {first_line(error)}.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # json raises ValueError; the others are of JSON of another structure.
        is_missing = isinstance(error, KeyError)
        what = f"there is an entry without {error}" if is_missing else first_line(error)
        raise DataError(f"{quoted(path)} is not JSON in COCO's format: {what}.") from error
    if not names or not all(isinstance(text, str) for text in names.values()):
        raise DataError(f"The categories of {quoted(path)} must have names, received {names!r}.")
    if len(set(names.values())) < listed["categories"]:
        raise DataError(f"The categories of {quoted(path)} must have ids and names of their own.")
    skipped["images with the id of another"] += listed["images"] - len(images)
    skipped["boxes of unknown images"] += sum(len(boxes[key]) for key in boxes.keys() - images)
    return names, images, boxes


@functools.lru_cache(maxsize=3)
def _parsed(path, content):
    """As `_index`, and how many there are in each list: a file of COCO takes half a minute."""
    with open(path, encoding="utf-8") as file:
        whole = json.load(file)
    names = {one["id"]: one["name"] for one in whole["categories"]}
    images = {one["id"]: one for one in whole["images"]}
    boxes = collections.defaultdict(list)
    for one in whole["annotations"]:
        # A list, for example, cannot be looked up: that is a TypeError here.
        hash(one["category_id"])
        # The outlines of objects are most of the file.
        boxes[one["image_id"]].append({key: one[key] for key in _KEYS if key in one})
    listed = {key: len(whole[key]) for key in ("categories", "images")}
    return {key: names[key] for key in sorted(names)}, images, dict(boxes), listed


def _is_finite(value):
    return is_number(value) and abs(value) < _LARGEST


def _is_box(annotation):
    box, is_crowd = annotation.get("bbox"), annotation.get("iscrowd", 0)
    is_sound = isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))
    return is_sound and not isinstance(annotation["category_id"], bool) and is_crowd in (0, 1)


def _area(annotation, skipped):
    area = annotation.get("area")
    if _is_finite(area) and area > 0:
        return area
    skipped["areas that are not positive numbers"] += "area" in annotation
    return math.prod(annotation["bbox"][2:])
