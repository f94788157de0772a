"""Every notebook runs from top to bottom, and is committed with its outputs."""

import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path, kind="code"):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["1_", "2_", "3_", "4_", "5_", "6_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed(path):
    first, *others = cells(path)
    assert 'find_spec("keras_cbam") is None' in "".join(first["source"])
    # A badge for Colab needs an address of the repository.
    assert "colab-badge" not in path.read_text(encoding="utf-8")
    assert [cell["execution_count"] for cell in (first, *others)] == list(range(1, len(others) + 2))
    kinds = [output["output_type"] for cell in (first, *others) for output in cell["outputs"]]
    assert "error" not in kinds
    assert kinds
    printing = [cell for cell in others if "print(" in "".join(cell["source"])]
    assert printing
    assert all(cell["outputs"] for cell in printing if "def " not in "".join(cell["source"]))
    names = {output.get("name") for cell in (first, *others) for output in cell["outputs"]}
    assert "stderr" not in names


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")
def test_runs_from_top_to_bottom(path, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    notebook = nbformat.read(path, as_version=4)
    # As in a clone, but what a notebook writes stays out of it.
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "benchmarks").symlink_to(FOLDER.parent / "benchmarks")
    resources = {"metadata": {"path": str(tmp_path / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=900, resources=resources).execute()
    ran = [cell for cell in notebook.cells if cell.cell_type == "code"]
    drawn = ["image/png" in output.get("data", {}) for cell in ran for output in cell.outputs]
    committed = [
        "image/png" in output.get("data", {}) for cell in cells(path) for output in cell["outputs"]
    ]
    assert sum(drawn) == sum(committed)
