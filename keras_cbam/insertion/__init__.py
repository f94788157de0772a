"""Finds where attention goes in a Functional graph, and copies the graph with attention in it."""

from keras_cbam.insertion.insert import insert_attention
from keras_cbam.insertion.remove import remove_attention
from keras_cbam.insertion.sites import find_sites

__all__ = ["find_sites", "insert_attention", "remove_attention"]
