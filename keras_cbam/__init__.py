"""CBAM, the Convolutional Block Attention Module, for Keras 3."""

import importlib
import pathlib
import sys
from typing import TYPE_CHECKING

from keras_cbam._lazy import import_lazily

if TYPE_CHECKING:
    from keras_cbam import applications as applications
    from keras_cbam import classification as classification
    from keras_cbam import cost as cost
    from keras_cbam import data as data
    from keras_cbam import detection as detection
    from keras_cbam import errors as errors
    from keras_cbam import insertion as insertion
    from keras_cbam import layers as layers
    from keras_cbam import models as models
    from keras_cbam import serving as serving
    from keras_cbam import training as training
    from keras_cbam import visualization as visualization
    from keras_cbam.applications import attention_backbone as attention_backbone
    from keras_cbam.applications import attention_classifier as attention_classifier
    from keras_cbam.cost import cost_table as cost_table
    from keras_cbam.cost import count_multiply_adds as count_multiply_adds
    from keras_cbam.cost import count_parameters as count_parameters
    from keras_cbam.insertion import find_sites as find_sites
    from keras_cbam.insertion import insert_attention as insert_attention
    from keras_cbam.insertion import remove_attention as remove_attention
    from keras_cbam.layers import BAM as BAM
    from keras_cbam.layers import CBAM as CBAM
    from keras_cbam.layers import AttentionLayer as AttentionLayer
    from keras_cbam.layers import ChannelAttention as ChannelAttention
    from keras_cbam.layers import ConvolutionControl as ConvolutionControl
    from keras_cbam.layers import SpatialAttention as SpatialAttention
    from keras_cbam.visualization import attention_maps as attention_maps
    from keras_cbam.visualization import grad_cam as grad_cam
    from keras_cbam.visualization import plot_attention as plot_attention
    from keras_cbam.visualization import plot_grad_cam as plot_grad_cam

__version__ = "0.2.0"

import_lazily(__name__)


def _is_command():
    """Whether this process is `keras-cbam` or `python -m keras_cbam`."""
    # An interpreter inside another program may have none.
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":
        # So Python calls the module until it has found it.
        return sys.orig_argv[-len(arguments)] in ("keras_cbam", "-mkeras_cbam")
    name = pathlib.PurePath(arguments[0]).name
    return name in ("keras-cbam", "keras-cbam.exe", "keras-cbam-script.py")


# `import keras_cbam` registers the layers, so that Keras can load models with them. The command
# does that later: it answers before TensorFlow is imported if its arguments are wrong.
if not _is_command():
    importlib.import_module("keras_cbam.insertion")
