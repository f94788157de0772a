"""The verb `predict`: what a detector finds in image files."""

from collections.abc import Iterator, Sequence
from typing import Any

from keras_cbam.data.image_sources import image_batches
from keras_cbam.data.listing import find_images
from keras_cbam.detection.evaluate import BATCH_SIZE, find_objects
from keras_cbam.detection.loading import load_run
from keras_cbam.visualization import panels


def predict_run(run: Any, paths: Sequence[str]) -> dict[str, Any]:
    """Finds objects in images.

    Args:
        run: `SavedRun`, or path of the folder of a run or of a `.keras` file.
        paths: list of strings, see `find_images`.

    Returns:
        Dict: `"images"`, a list of dicts with `"image"`, the path, `"width"`, `"height"` and
        `"detections"`, the most confident first: dicts with `"class"`, `"class_index"`,
        `"confidence"` and `"box"`, left, top, right and bottom edge in pixels of the image; and
        `"skipped"`, a list of lines `"path: reason"` on images that cannot be read.

    Raises:
        ModelError: if it is not a trained detector.
        DataError: if there is no image, or none can be read.

    Example:

    >>> predict_run("run", ["street.jpg"])["images"][0]["detections"][0]["class"]
    'Bag'
    """
    _, model, class_names = load_run(run)
    paths, skipped = find_images(paths)
    found = [
        image_entry(path, image, own, class_names)
        for path, image, own in found_in_files(model, paths, skipped)
    ]
    return {"images": found, "skipped": skipped}


def found_in_files(model: Any, paths: Sequence[str], skipped: list[str]) -> Iterator[tuple]:
    """Yields path, Pillow image and detections of each file; adds the unreadable to `skipped`."""

    def as_rgb(image, _):
        return image.convert("RGB")

    for batch, images in image_batches(paths, BATCH_SIZE, skipped, transform=as_rgb):
        yield from zip(batch, images, find_objects(model, images))


def image_entry(path, image, detections, class_names):
    """What `predict_run` returns of one image."""
    columns = (detections[name].tolist() for name in ("classes", "confidence", "boxes"))
    found = [
        {
            "class": panels.class_label(index, class_names),
            "class_index": index,
            "confidence": round(confidence, 4),
            "box": [round(edge, 2) for edge in box],
        }
        for index, confidence, box in zip(*columns)
    ]
    return {"image": path, "width": image.width, "height": image.height, "detections": found}
