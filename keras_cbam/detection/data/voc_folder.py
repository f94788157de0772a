"""Folders in the layout of PASCAL VOC 2007."""

import math
import os
import xml.etree.ElementTree

from keras_cbam.data.image_files import decoding, open_image, why_unreadable
from keras_cbam.detection.data.collector import Collector, in_parts
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.detection.extra import library
from keras_cbam.errors import DataError, first_line, printable, quoted

# VOC 2007 has all four lists; later years have no public test part.
_PARTS = (
    *(("trainval", "test"), ("train", "val", "test"), ("train", "val")),
    *(("val", "test"), ("val",), ("test",)),
)


def voc_folder(folder: str | os.PathLike, strict: bool = False) -> DetectionData:
    """Images and boxes of a folder in the layout of VOC 2007.

    VOC counts pixels from 1, and its boxes include the last: `xmin, ymin, xmax, ymax` become the
    edges `xmin - 1, ymin - 1, xmax, ymax`. What cannot be used is left out, see `coco_folder`.

    Args:
        folder: path of a folder with `Annotations/*.xml`, `JPEGImages/*.jpg`, and the names of the
            images in `ImageSets/Main/trainval.txt` and `test.txt`; or else in `train.txt` and
            `val.txt`, and those to test on in `test.txt` if there is one.
        strict: see `SizedImages`. Defaults to `False`.

    Returns:
        `DetectionData` of the training part's classes, sorted; difficult objects are `ignored`.

    Raises:
        DataError: if the folder cannot be used, or an XML file is malformed or has a DTD.

    Example:

    >>> len(voc_folder("VOCdevkit/VOC2007").class_names)
    20
    """
    folder = os.fspath(folder)
    name = printable(os.path.basename(os.path.abspath(folder)))
    lists = os.path.join(folder, "ImageSets", "Main")
    for parts_of in _PARTS:
        paths = [os.path.join(lists, f"{part}.txt") for part in parts_of]
        if all(map(os.path.isfile, paths)):
            break
    else:
        raise DataError(
            f"The folder {quoted(folder)} must have the lists trainval.txt and test.txt, or "
            "train.txt and val.txt, in 'ImageSets/Main'; or val.txt or test.txt to measure on."
        )
    found = [_read(folder, path, strict) for path in paths]
    class_names = {key: key for key in found[0].class_names()}
    parts = [part.collect(name, class_names, path) for part, path in zip(found, paths)]
    return in_parts(parts, folder, has_training=parts_of[0].startswith("train"))


def _read(folder, list_path, strict):
    try:
        with open(list_path, encoding="utf-8") as file:
            # The lists of a class have a second column.
            image_ids = [line.split()[0] for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{quoted(list_path)} cannot be read: {first_line(error)}.") from error
    collector = Collector(folder, strict)
    collector.skipped["images listed before"] += len(image_ids) - len(set(image_ids))
    for image_id in dict.fromkeys(image_ids):
        annotation = collector.inside(os.path.join(folder, "Annotations"), f"{image_id}.xml")
        if annotation is not None:
            image = collector.inside(os.path.join(folder, "JPEGImages"), f"{image_id}.jpg")
            if image is not None:
                _add(collector, image, annotation, image_id)
    return collector


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
    defused = library("defusedxml.ElementTree")
    try:
        return defused.parse(path, forbid_dtd=True).getroot()
    except library("defusedxml").DefusedXmlException as error:
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
