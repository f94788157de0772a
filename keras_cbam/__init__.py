"""CBAM, the Convolutional Block Attention Module, for Keras 3."""

import pathlib
import sys

__version__ = "0.1.0"

__all__ = [
    "BAM",
    "CBAM",
    "ChannelAttention",
    "SpatialAttention",
    "attention_backbone",
    "attention_classifier",
    "find_sites",
    "insert_attention",
    "remove_attention",
]


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
    from keras_cbam.applications import attention_backbone, attention_classifier
    from keras_cbam.insertion.insert import insert_attention
    from keras_cbam.insertion.remove import remove_attention
    from keras_cbam.insertion.sites import find_sites
    from keras_cbam.layers.bam import BAM
    from keras_cbam.layers.cbam import CBAM
    from keras_cbam.layers.channel_attention import ChannelAttention
    from keras_cbam.layers.spatial_attention import SpatialAttention
