"""Keras' own files, checked before they are read; and fresh processes."""
