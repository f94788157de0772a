"""Reads labelled images, from wherever they are, and makes batches of them."""

from typing import TYPE_CHECKING

from keras_cbam._lazy import import_lazily

if TYPE_CHECKING:
    from keras_cbam.data.batches import batched as batched
    from keras_cbam.data.batches import evaluation_batches as evaluation_batches
    from keras_cbam.data.batches import reading as reading
    from keras_cbam.data.batches import training_batches as training_batches
    from keras_cbam.data.crops import evaluation_crop as evaluation_crop
    from keras_cbam.data.crops import random_box as random_box
    from keras_cbam.data.crops import training_crop as training_crop
    from keras_cbam.data.image_files import check_headers as check_headers
    from keras_cbam.data.image_files import decoding as decoding
    from keras_cbam.data.image_files import open_image as open_image
    from keras_cbam.data.image_files import resize_arrays as resize_arrays
    from keras_cbam.data.image_files import square as square
    from keras_cbam.data.image_files import why_unreadable as why_unreadable
    from keras_cbam.data.image_sources import ArrayImages as ArrayImages
    from keras_cbam.data.image_sources import FileImages as FileImages
    from keras_cbam.data.labelled_images import ImageData as ImageData
    from keras_cbam.data.labelled_images import LabelledImages as LabelledImages
    from keras_cbam.data.listing import find_images as find_images
    from keras_cbam.data.load import load_data as load_data
    from keras_cbam.data.load import load_part as load_part
    from keras_cbam.data.order import ONE_DEVICE as ONE_DEVICE
    from keras_cbam.data.order import Devices as Devices
    from keras_cbam.data.order import epoch_order as epoch_order
    from keras_cbam.data.order import share as share
    from keras_cbam.data.order import spread as spread

import_lazily(__name__)
