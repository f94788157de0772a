"""Small folders in the layouts of COCO and VOC."""

import json

import numpy as np
from PIL import Image


def write_image(path, width=40, height=30, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), colour, "uint8")).save(path)


def coco_box(image_id, bbox, category_id=1, **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def coco_json(path, images, annotations, categories=((1, "cat"), (5, "dog"))):
    """Writes annotations; `images` is `{id: file name}`, of images 40 wide and 30 high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "images": [
            {"id": key, "file_name": name, "width": 40, "height": 30}
            for key, name in images.items()
        ],
        "annotations": [{"id": i, **each} for i, each in enumerate(annotations, 1)],
        "categories": [{"id": key, "name": name} for key, name in categories],
    }
    path.write_text(json.dumps(whole))
    return whole


def write_coco(folder):
    """Two images to train on, the second without boxes, and one to test on."""
    for name in ("train2017/a.png", "train2017/b.png", "val2017/c.png"):
        write_image(folder / name)
    annotations = folder / "annotations"
    boxes = [coco_box(3, [1, 2, 10, 20], 5, area=123.0), coco_box(3, [0, 0, 4, 4], iscrowd=1)]
    coco_json(annotations / "instances_train2017.json", {3: "a.png", 4: "b.png"}, boxes)
    coco_json(annotations / "instances_val2017.json", {9: "c.png"}, [coco_box(9, [5, 5, 5, 5])])
    return folder


def cut_short(path):
    """Leaves the start of an image file: its header is whole, its pixels are not."""
    with open(path, "rb+") as file:
        file.truncate(60)


def write_many(folder, count):
    """Images to train on, of the colours 0, 10, ..., with a box whose right edge is 1, 2, ..."""
    write_coco(folder)
    names = {i: f"{i:02}.png" for i in range(count)}
    for i, name in names.items():
        write_image(folder / "train2017" / name, colour=10 * i)
    boxes = [coco_box(i, [0, 0, i + 1, 9]) for i in names]
    coco_json(folder / "annotations" / "instances_train2017.json", names, boxes)
    return folder


def voc_object(name, box, difficult=0):
    left, top, right, bottom = box
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{left}</xmin>"
        f"<ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
    )


def voc_xml(*objects, width=40, height=30):
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def write_voc(folder, train=None, test=None, names=("trainval", "test")):
    """Images with the given XML: `{id: text}` of each part."""
    if train is None:
        train = {
            "000001": voc_xml(
                voc_object("dog", (1, 1, 40, 30)), voc_object("cat", (2, 3, 5, 7), difficult=1)
            ),
            "000002": voc_xml(),
        }
    if test is None:
        test = {"000003": voc_xml(voc_object("cat", (1, 1, 1, 1)))}
    for name, part in zip(names, (train, test)):
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{key}\n" for key in part))
        for key, text in part.items():
            (folder / "Annotations").mkdir(exist_ok=True)
            (folder / "Annotations" / f"{key}.xml").write_text(text)
            write_image(folder / "JPEGImages" / f"{key}.jpg")
    return folder
