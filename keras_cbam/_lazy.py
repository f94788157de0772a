"""Imports the public names of a room when they are first used.

A room lists its names once, as imports that only type checkers read:

    if TYPE_CHECKING:
        from keras_cbam.data.load import load_data as load_data

    import_lazily(__name__)
"""

import ast
import importlib
import inspect
import sys
import typing


def import_lazily(package_name: str) -> None:
    """Gives a room's `__init__.py` the names that it imports as themselves (`as load_data`).

    Sets the room's `__getattr__`, `__dir__` and `__all__`.

    Args:
        package_name: string, the `__name__` of the room.
    """
    package = sys.modules[package_name]
    modules = {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(package)))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname == alias.name
    }

    def __getattr__(name: str) -> typing.Any:  # noqa: N807
        if name not in modules:
            raise AttributeError(f"module {package_name!r} has no attribute {name!r}")
        if modules[name] == package_name:
            # A room in this one.
            return importlib.import_module(f"{package_name}.{name}")
        value = getattr(importlib.import_module(modules[name]), name)
        # Kept, so that the module is asked once.
        setattr(package, name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return sorted({*vars(package), *modules})

    # `from keras_cbam import *` must not put rooms in the place of `keras.layers` and the like.
    public = sorted(name for name, module in modules.items() if module != package_name)
    vars(package).update(__getattr__=__getattr__, __dir__=__dir__, __all__=public)
