"""The house of the package: which room imports which, and how large files and functions are."""

import ast
import pathlib

import pytest

import keras_cbam

ROOT = pathlib.Path(keras_cbam.__file__).parent
# A room imports only from lower floors.
FLOORS = {
    "errors": -1,
    "_compat": -1,
    "_lazy": -1,
    "_types": -1,
    "files": 0,
    "ops": 0,
    "layers": 1,
    "attention": 2,
    "insertion": 3,
    "visualization": 4,
    "cost": 4,
    "applications": 5,
    "models": 5,
    "data": 6,
    "serving": 6,
    "training": 7,
    "classification": 8,
    "detection": 8,
    "cli": 10,
    "commands": 9,
    "__main__": 11,
}
LONGEST_FILE, MOST_FILES, LONGEST_FUNCTION = 250, 12, 60
FILES = sorted(ROOT.rglob("*.py"))


def room(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(tree):
    """The rooms that a module imports, at its top or in a function."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "keras_cbam":
                names = [f"keras_cbam.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "keras_cbam" and len(parts) > 1:
                yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_job_on_its_floor(path):
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    tree = ast.parse(text)
    if room(path) != "__init__":
        own = FLOORS[room(path)]
        above = {name for name in imported(tree) if FLOORS.get(name, -1) >= own}
        assert above <= {room(path), "models" if room(path) == "applications" else room(path)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            docstring = ast.get_docstring(node, clean=False) or ""
            assert lines - docstring.count("\n") <= LONGEST_FUNCTION, node.name


def test_a_folder_is_one_room():
    for folder in {path.parent for path in FILES}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES, folder
