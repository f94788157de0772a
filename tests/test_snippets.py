"""Every snippet and every command of README, of the repository's pages and of the site works.

Pretrained weights are random here, so that nothing is downloaded, and trainings take one epoch.
"""

import configparser
import functools
import re
import shlex

import keras
import numpy as np
import PIL.Image
import pytest

from keras_cbam import AttentionLayer, cli, insert_attention
from keras_cbam.applications import application_names, find_application
from keras_cbam.serving import write_saved_model
from tests.snippets import LANGUAGES, PAGES, ROOT, all_snippets, snippets

PYTHON = snippets("python")
# Programs of others, which are not installed here or belong to the shell.
OTHERS = {"curl", "docker", "export", "git", "jupyter", "mkdocs", ".ci/run", "pre-commit", "ruff"}
OTHERS |= {"basedpyright"}


# The layer and the task that CONTRIBUTING adds as examples.
TO_BE_WRITTEN = "coordinate_attention|segmentation/"


def test_every_block_is_of_a_language_that_is_checked():
    assert {block.language for block in all_snippets()} <= LANGUAGES
    fences = sum(page.read_text(encoding="utf-8").count("\n```") for page in PAGES)
    assert 2 * len(list(all_snippets())) == fences


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_a_snippet_compiles_and_its_imports_are_there(snippet):
    compile(snippet.text, str(snippet), "exec")
    exec(snippet.imports(), {})


def commands():
    for snippet in snippets("bash"):
        for line in snippet.commands():
            yield pytest.param(line, id=f"{snippet}: {line[:40]}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_is_one_that_exists(line):
    words = shlex.split(line)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, *arguments = words
    if program == "keras-cbam":
        if arguments != ["--version"]:
            cli._parser().parse_args(arguments)
    elif words[:2] == ["pip", "install"]:
        extras = configparser.ConfigParser()
        extras.read(ROOT / "setup.cfg")
        known = set(extras["options.extras_require"])
        for path in (each for each in arguments[1:] if each.startswith(".")):
            assert set(re.findall(r"[\w-]+", path)) <= known
    elif program == "python":
        is_script = arguments[0] != "-m"
        assert (ROOT / arguments[0]).is_file() if is_script else arguments[1] in ("pytest", "build")
    else:
        assert program in OTHERS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:benchmarks|examples|tests|keras_cbam)/[\w/]+\.\w+", text):
        assert (ROOT / name).exists() or re.search(TO_BE_WRITTEN, name), name


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with the files that the pages name, and the arrays that they name."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 256, (40, 40, 3)).astype("uint8")
            PIL.Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    for name in application_names():
        function = find_application(name)
        monkeypatch.setattr(keras.applications, function.__name__, without_download(function))
    monkeypatch.setattr(keras.Model, "fit", one_epoch(keras.Model.fit))
    inputs = keras.Input((32, 32, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, name="first")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(x))
    model = insert_attention(model, where=["first"])
    (tmp_path / "keras_cbam_run").mkdir()
    model.save(tmp_path / "keras_cbam_run" / "model.keras")
    write_saved_model(model, tmp_path / "keras_cbam_run" / "saved_model")
    return {
        "images": random.integers(0, 256, (4, 224, 224, 3)).astype("uint8"),
        "labels": np.arange(4),
        "pixels": random.integers(0, 256, (4, 32, 32, 3)).astype("uint8"),
    }


def without_download(application):
    @functools.wraps(application)
    def random_weights(*args, weights="imagenet", **kwargs):
        assert weights in ("imagenet", None)
        return application(*args, weights=None, **kwargs)

    return random_weights


def one_epoch(fit):
    def short_fit(self, *args, epochs=1, **kwargs):
        return fit(self, *args, epochs=min(epochs, kwargs.get("initial_epoch", 0) + 1), **kwargs)

    return short_fit


@pytest.mark.slow
@pytest.mark.parametrize("snippet", [one for one in PYTHON if one.runs], ids=str)
def test_a_snippet_runs(snippet, world):
    # The optional parts of the package need their libraries.
    if "detection" in snippet.text:
        pytest.importorskip("keras_hub", reason="needs the extra detection")
    exec(compile(snippet.text, str(snippet), "exec"), world)


@pytest.mark.slow
@pytest.mark.parametrize(
    "snippet", [one for one in PYTHON if "AttentionLayer)" in one.text], ids=str
)
def test_a_snippet_that_freezes_trains_the_attention_and_the_head(snippet, world):
    exec(compile(snippet.text, str(snippet), "exec"), world)
    model = world["model"]
    layers = [each for each in model._flatten_layers() if isinstance(each, AttentionLayer)]
    expected = {id(weight) for layer in layers for weight in layer.weights}
    expected |= {id(weight) for weight in model.layers[-1].weights}
    assert len(layers) > 16
    assert {id(weight) for weight in model.trainable_variables} == expected


def test_few_snippets_are_only_compiled():
    assert len([one for one in PYTHON if not one.runs]) <= 2
