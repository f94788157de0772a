"""CBAM, the Convolutional Block Attention Module, for Keras 3."""

from keras_cbam.applications import attention_backbone, attention_classifier
from keras_cbam.insertion.insert import insert_attention
from keras_cbam.insertion.remove import remove_attention
from keras_cbam.insertion.sites import find_sites
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.spatial_attention import SpatialAttention

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
