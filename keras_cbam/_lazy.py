"""Public names of a room that are imported when they are first used."""

import importlib
import sys


def lazy_names(package_name, modules):
    """What a room's `__init__.py` needs to re-export names without importing their modules.

    Args:
        package_name: string, the `__name__` of the room.
        modules: dict, for each public name the full name of the module that defines it.

    Returns:
        The room's `__getattr__`, `__dir__` and `__all__`.

    Example:

    >>> __getattr__, __dir__, __all__ = lazy_names(__name__, {"load_data": "keras_cbam.data.load"})
    """
    package = sys.modules[package_name]

    def __getattr__(name):  # noqa: N807
        if name not in modules:
            raise AttributeError(f"module {package_name!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        # Kept, so that the module is asked once.
        setattr(package, name, value)
        return value

    def __dir__():  # noqa: N807
        return sorted({*vars(package), *modules})

    return __getattr__, __dir__, sorted(modules)
