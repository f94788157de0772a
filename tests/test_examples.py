"""Each example is short and runs offline, as it stands and in a process of its own."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from keras_cbam.errors import last_line

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
LONGEST = 40
NEEDS = {"keras_hub_classifier": "keras_hub", "detector": "keras_hub", "jax_training": "jax"}
# As it stands it trains for minutes.
SMALLER = {"detector": "detector.main(scenes=32, epochs=1, test_scenes=8)"}
DIFFERENCE = "largest difference after insertion: "
SAYS = {
    "functional_model": "cbam_1 (2, 1, 1, 64) (2, 16, 16, 1)",
    "pretrained_insertion": DIFFERENCE,
    "unet": "(1, 32, 48, 2)",
    "keras_hub_classifier": DIFFERENCE,
    "detector": "AP@.5",
    "jax_training": "loss ",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path):
    needed = NEEDS.get(path.stem, "keras")
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    smaller = f"import {path.stem}; {SMALLER.get(path.stem)}"
    command = ["-c", smaller] if path.stem in SMALLER else [str(path)]
    root = str(FOLDER.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(FOLDER)])}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, last_line(done.stderr)
    before, said, after = done.stdout.partition(SAYS[path.stem])
    assert said, before
    if said == DIFFERENCE:
        assert float(after.split()[0]) < 1e-5
