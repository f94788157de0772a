"""The repository's own files agree: versions, addresses, stages, pages and the API reference."""

import configparser
import importlib
import os
import pathlib
import re
import subprocess
import sys
import zlib

import pytest

import keras_cbam

ROOT = pathlib.Path(__file__).parents[1]
ROOMS = (
    *("classification", "data", "detection", "insertion", "layers", "models", "serving"),
    *("training", "visualization"),
)
ADDRESS = "OWNER"


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def inventory(tmp_path_factory):
    """Builds the site as `mkdocs build --strict` does: the names that its reference documents."""
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = (folder / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]
    return {line.split()[0] for line in zlib.decompress(listed).decode().splitlines()}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room, inventory):
    module = importlib.import_module(f"keras_cbam.{room}")
    assert {f"keras_cbam.{room}.{name}" for name in module.__all__} <= inventory


def test_every_name_at_the_top_is_in_the_reference(inventory):
    assert set(keras_cbam.__all__) <= {name.rpartition(".")[2] for name in inventory}


def test_every_name_at_the_top_is_in_the_overview():
    overview = read("docs/api/index.md")
    assert [name for name in keras_cbam.__all__ if f"`{name}`" not in overview] == []


def test_every_room_has_its_page():
    for room in ROOMS:
        assert f"<!-- generated: reference {room} -->" in read(f"docs/api/{room}.md")


def test_the_site_has_its_pages():
    pages = list((ROOT / "docs").rglob("*.md"))
    navigation = read("mkdocs.yml")
    assert len(pages) >= 22
    for page in pages:
        assert page.relative_to(ROOT / "docs").as_posix() in navigation
    assert navigation.count("notebooks/") == len(list((ROOT / "notebooks").glob("*.ipynb")))


@pytest.mark.slow
def test_the_page_on_attention_has_the_tables_of_the_evidence(tmp_path):
    pytest.importorskip("scipy", reason="needs the extra compare")
    page = tmp_path / "page.md"
    page.write_text(read("docs/does_attention_help.md"), encoding="utf-8")
    subprocess.run([sys.executable, "benchmarks/evidence.py", "--page", page], cwd=ROOT, check=True)
    assert page.read_text(encoding="utf-8") == read("docs/does_attention_help.md")


def test_readme_has_the_numbers_of_the_evidence():
    _, _, rest = read("README.md").partition("## Does it help?")
    table = [line.split("|")[2:-1] for line in rest.split("\n## ")[0].splitlines() if "±" in line]
    numbers = [cell.strip() for row in table for cell in row]
    assert len(numbers) == 16
    page = read("docs/does_attention_help.md")
    assert [one for one in numbers if f"| {one} |" not in page] == []


def test_versions_agree():
    version = keras_cbam.__version__
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    released = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert released[:2] == ["Unreleased", version]


def test_the_placeholder_of_addresses_stands_in_one_file():
    names = ("README.md", "CITATION.cff", "SECURITY.md", "mkdocs.yml", "pyproject.toml")
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in names)]
    assert ADDRESS in read("setup.cfg")
    assert [page for page in pages if ADDRESS in page.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    ("tool", "files"),
    [
        ("ruff", (".ci/run", "setup.cfg", ".pre-commit-config.yaml")),
        ("basedpyright", (".ci/run", "CONTRIBUTING.md")),
    ],
)
def test_a_tool_has_one_version(tool, files):
    pins = [set(re.findall(rf"{tool}==([\d.]+)", read(name))) for name in files]
    assert all(pins)
    assert len(set.union(*pins)) == 1


def test_workflows_and_pages_name_stages_that_exist():
    script = read(".ci/run")
    stages = re.search(r"^stages=\((.*)\)$", script, re.MULTILINE)[1].split()
    for stage in stages:
        assert f"\n{stage}() {{" in script
    workflow = read(".github/workflows/tests.yml")
    listed = re.search(r"stage: \[(.*)\]", workflow)[1].split(", ")
    named = {*listed, *re.findall(r"\{stage: (\w+)", workflow), "docs"}
    assert named == set(stages)
    pythons = re.findall(r'"(3\.\d+)"', re.search(r"python: \[.*\]", workflow)[0])
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    assert all(f"Python :: {python}" in metadata["metadata"]["classifiers"] for python in pythons)
