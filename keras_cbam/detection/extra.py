"""Packages of the extras, imported where they are used: says how to get those that are missing."""

import importlib
import types


def library(name: str, extra: str = "detection") -> types.ModuleType:
    """A module of a package; ImportError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"This needs a further package: run `pip install keras_cbam[{extra}]`. {error}."
        ) from error
