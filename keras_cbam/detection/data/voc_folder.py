"""Folders in the layout of PASCAL VOC: one year, or a union of several."""

import math
import os
import xml.etree.ElementTree

from keras_cbam.data.image_files import decoding, open_image, why_unreadable
from keras_cbam.detection.data.collector import Collector, Splits, in_parts
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.errors import DataError, first_line, library, printable, quoted

# VOC 2007 has all four lists; later years have no public test part.
_PARTS = (
    *(("trainval", "test"), ("train", "val", "test"), ("train", "val")),
    *(("val", "test"), ("val",), ("test",)),
)
_LISTS = os.path.join("ImageSets", "Main")


def voc_folder(
    folder: str | os.PathLike, strict: bool = False, splits: Splits = (None, None, None)
) -> DetectionData:
    """Images and boxes of a folder in the layout of VOC 2007, or of one with a subfolder a year.

    VOC counts pixels from 1, and its boxes include the last: `xmin, ymin, xmax, ymax` become the
    edges `xmin - 1, ymin - 1, xmax, ymax`. What cannot be used is left out, see `coco_folder`.

    Args:
        folder: path of a folder with `Annotations/*.xml`, `JPEGImages/*.jpg`, and the names of the
            images in `ImageSets/Main/trainval.txt` and `test.txt`; or else in `train.txt` and
            `val.txt`, and those to test on in `test.txt` if there is one. Or of a folder with such
            subfolders, as `VOCdevkit`: a part is then the union of what they have of it.
        strict: see `SizedImages`. Defaults to `False`.
        splits: what to train on, to validate with and to test on, lists of the folder or of its
            subfolders: `"VOC2007/trainval+VOC2012/trainval"`. Defaults to those above.

    Returns:
        `DetectionData` of the training part's classes, sorted; difficult objects are `ignored`. In
        a union, image ids begin with the subfolder.

    Raises:
        DataError: if the folder cannot be used, or an XML file is malformed or has a DTD.

    Example:

    >>> data = voc_folder("VOCdevkit")
    >>> len(data.train), len(data.test), len(data.class_names)
    (16551, 4952, 20)
    """
    folder = os.fspath(folder)
    name = printable(os.path.basename(os.path.abspath(folder)))
    if not any(splits):
        splits = _present(folder)
    parts = []
    for part in (part for part in splits if part):
        collector = Collector(folder, strict)
        for one in part.split("+"):
            _read(collector, folder, *one.strip().rpartition("/")[::2])
        parts.append((part, collector))
    class_names = {key: key for key in parts[0][1].class_names()}
    found = [each.collect(name, class_names, f"{folder}: {part}") for part, each in parts]
    return in_parts(found, folder, splits)


def voc_years(folder: str) -> list[str]:
    """The subfolders of a folder in VOC's layout, `""` for the folder itself."""
    if os.path.isdir(os.path.join(folder, _LISTS)):
        return [""]
    names = sorted(os.listdir(folder))
    return [name for name in names if os.path.isdir(os.path.join(folder, name, _LISTS))]


def _present(folder):
    """The three splits of the lists that a folder has."""

    def union(part):
        paths = {year: os.path.join(folder, year, _LISTS, f"{part}.txt") for year in years}
        return "+".join(f"{year}/{part}" for year, path in paths.items() if os.path.isfile(path))

    years = voc_years(folder)
    for parts in _PARTS:
        found = [union(part) for part in parts]
        if all(found):
            return found if parts[0].startswith("train") else [None, *found]
    raise DataError(
        f"The folder {quoted(folder)} must have the lists trainval.txt and test.txt, or "
        "train.txt and val.txt, in 'ImageSets/Main'; or val.txt or test.txt to measure on."
    )


def _read(collector, folder, year, part):
    root = os.path.join(folder, year)
    list_path = os.path.join(root, _LISTS, f"{part}.txt")
    annotations = os.path.join(root, "Annotations")
    try:
        # Some editors begin a file by a mark.
        with open(list_path, encoding="utf-8-sig") as file:
            names = list(filter(None, map(str.strip, file)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{quoted(list_path)} cannot be read: {first_line(error)}.") from error
    for name in names:
        # The lists of a class have a second column, unless it is a name with a space.
        if not os.path.isfile(os.path.join(annotations, f"{name}.xml")):
            name = name.split()[0]
        # Other years have images of the same names.
        image_id = f"{year}/{name}" if year else name
        if collector.is_new(image_id):
            annotation = collector.inside(annotations, f"{name}.xml")
            image = annotation and collector.inside(os.path.join(root, "JPEGImages"), f"{name}.jpg")
            if image:
                _add(collector, image, annotation, image_id)


def _add(collector, image, annotation, image_id):
    root = _parse(annotation)
    size = _numbers(root.find("size"), ("height", "width")) or (0, 0)
    if min(size) < 1:
        # Some programs write no size, or zeros.
        try:
            with decoding():
                size = open_image(image).size[::-1]
        except Exception as error:
            # Pillow raises any of a dozen kinds on damaged files.
            collector.unreadable.append(f"{printable(image)}: {why_unreadable(error)}")
            return
    boxes, classes, ignored = [], [], []
    for item in root.iter("object"):
        box = _numbers(item.find("bndbox"), ("xmin", "ymin", "xmax", "ymax"))
        name = (item.findtext("name") or "").strip()
        if box is None or not name:
            collector.skipped["malformed boxes"] += 1
            continue
        left, top, right, bottom = box
        boxes.append((left - 1, top - 1, right, bottom))
        classes.append(name)
        ignored.append((item.findtext("difficult") or "").strip() == "1")
    collector.add(image, tuple(map(int, size)), image_id, boxes, classes, ignored)


def _parse(path):
    defused = library("defusedxml.ElementTree", "detection")
    try:
        return defused.parse(path, forbid_dtd=True).getroot()
    except library("defusedxml", "detection").DefusedXmlException as error:
        raise DataError(
            f"{quoted(path)} declares a document type or entities, which are not read."
        ) from error
    except (OSError, ValueError, LookupError, xml.etree.ElementTree.ParseError) as error:
        raise DataError(f"{quoted(path)} is not well-formed XML: {first_line(error)}.") from error


def _numbers(element, names):
    """The numbers in those children of an element; `None` if there are not all."""
    try:
        numbers = [float(element.findtext(name)) for name in names]
    except (AttributeError, TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(n) and abs(n) < 1e9 for n in numbers) else None
