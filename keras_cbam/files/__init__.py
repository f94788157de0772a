"""Checks Keras' own files before they are read, and runs fresh processes."""
