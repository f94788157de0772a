"""Labelled images, from wherever they are, to batches."""

from keras_cbam._lazy import lazy_names

_NAMES = {
    "batches": "batched evaluation_batches reading training_batches",
    "crops": "evaluation_crop random_box training_crop",
    "image_files": "check_headers decoding open_image resize_arrays square why_unreadable",
    "image_sources": "ArrayImages FileImages",
    "labelled_images": "ImageData LabelledImages",
    "listing": "find_images",
    "load": "load_data load_part",
    "order": "ONE_DEVICE Devices epoch_order share spread",
}
__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {name: f"{__name__}.{file}" for file, names in _NAMES.items() for name in names.split()},
)
