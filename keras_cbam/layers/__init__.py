"""The attention layers: CBAM, its two gates alone, BAM, and what they are compared with."""

from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.layers.bam import BAM
from keras_cbam.layers.cbam import CBAM
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.convolution_control import ConvolutionControl
from keras_cbam.layers.spatial_attention import SpatialAttention

__all__ = [
    "BAM",
    "CBAM",
    "AttentionLayer",
    "ChannelAttention",
    "ConvolutionControl",
    "SpatialAttention",
]
