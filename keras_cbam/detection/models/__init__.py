"""Detectors and the backbones they are built on."""
