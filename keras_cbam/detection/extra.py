"""Imported before the packages of the extra are: says how to get those that are missing."""

import importlib.util

for _name in ("defusedxml", "keras_cv", "pycocotools"):
    if importlib.util.find_spec(_name) is None:
        raise ImportError(
            "Detection needs further packages: run `pip install keras_cbam[detection]`. "
            f"There is no {_name}."
        )
