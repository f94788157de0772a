"""Labelled images, from wherever they are, to batches."""
