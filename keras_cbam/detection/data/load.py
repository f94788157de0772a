"""Images with boxes, from wherever they are."""

import os

from keras_cbam.detection.arguments import SCENES
from keras_cbam.detection.data.coco_folder import coco_folder
from keras_cbam.detection.data.collector import Splits
from keras_cbam.detection.data.detection_set import DetectionData
from keras_cbam.detection.data.scenes import clothing_scenes
from keras_cbam.detection.data.voc_folder import voc_folder, voc_years
from keras_cbam.errors import DataError, quoted


def load_detection_data(
    data: str | os.PathLike = SCENES,
    seed: int = 0,
    train_scenes: int = 5000,
    test_scenes: int = 500,
    image_size: int = 96,
    strict: bool = False,
    test_fraction: float | None = 0.2,
    splits: Splits = (None, None, None),
) -> DetectionData:
    """Loads images with boxes: a part to train on, one to validate with, and one to test on.

    Args:
        data: `"scenes"`, see `clothing_scenes`, or the path of a folder: with `ImageSets`, in it or
            in a subfolder, see `voc_folder`, else see `coco_folder`. Defaults to `"scenes"`.
        seed: int, of the scenes, or of the split of a folder without parts. Defaults to `0`.
        train_scenes, test_scenes: ints, numbers of scenes. Default to `5000` and `500`.
        image_size: int, side of the scenes in pixels. Defaults to `96`.
        strict: see `SizedImages`. Defaults to `False`.
        test_fraction: see `coco_folder`. Defaults to `0.2`.
        splits: what to train on, to validate with and to test on, see `voc_folder` and
            `coco_folder`; without the second, the third. Defaults to none: what the folder has.

    Returns:
        `DetectionData`. Where the data have two parts, `validation` is `test`.

    Raises:
        DataError: if there is no such folder, or it cannot be used.

    Example:

    >>> data = load_detection_data("scenes", train_scenes=100, test_scenes=20)
    """
    if data == SCENES:
        test = clothing_scenes(test_scenes, "test", image_size, seed)
        train = clothing_scenes(train_scenes, "train", image_size, seed)
        return DetectionData(train, test, test)
    folder = os.fspath(data)
    if not os.path.isdir(folder):
        raise DataError(f"There is no such folder as {quoted(folder)}.")
    if voc_years(folder):
        return voc_folder(folder, strict, splits)
    names = ("annotations", "annotations.json")
    if any(splits) or any(os.path.exists(os.path.join(folder, name)) for name in names):
        return coco_folder(folder, seed, test_fraction, strict, splits)
    raise DataError(
        f"The folder {quoted(folder)} must have 'ImageSets', as VOC's has, or 'annotations' or "
        "'annotations.json', as COCO's has."
    )
