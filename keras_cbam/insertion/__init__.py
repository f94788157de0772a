"""Inserts attention into a Functional model and removes it: in a copy, at the sites chosen."""

from keras_cbam.insertion.insert import insert_attention
from keras_cbam.insertion.remove import remove_attention
from keras_cbam.insertion.sites import find_sites

__all__ = ["find_sites", "insert_attention", "remove_attention"]
