"""The repository's own files agree: versions, addresses, stages, pages and the API reference."""

import configparser
import importlib
import pathlib
import re

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


def reference():
    pages = (ROOT / "docs" / "api").glob("*.md")
    return {
        name
        for page in pages
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room):
    module = importlib.import_module(f"keras_cbam.{room}")
    assert {f"keras_cbam.{room}.{name}" for name in module.__all__} <= reference()


def test_every_name_at_the_top_is_in_the_reference():
    named = {name.rpartition(".")[2] for name in reference()}
    assert set(keras_cbam.__all__) <= named
    overview = read("docs/api/index.md")
    assert [name for name in keras_cbam.__all__ if f"`{name}`" not in overview] == []


def test_every_name_of_the_reference_exists():
    for name in reference():
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name


def test_the_site_has_its_pages():
    pages = list((ROOT / "docs").rglob("*.md"))
    navigation = read("mkdocs.yml")
    assert len(pages) >= 22
    for page in pages:
        assert page.relative_to(ROOT / "docs").as_posix() in navigation
    assert navigation.count("notebooks/") == len(list((ROOT / "notebooks").glob("*.ipynb")))


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


def test_tools_have_one_version():
    files = (".ci/run", "setup.cfg", ".pre-commit-config.yaml")
    assert {pin for name in files for pin in re.findall(r"ruff==([\d.]+)", read(name))} == {
        re.findall(r"ruff==([\d.]+)", read("setup.cfg"))[0]
    }


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
