import dataclasses
import os

import pytest

from keras_cbam import models
from keras_cbam.classification.arguments import (
    ONLY_OF,
    PAPER_NETWORKS,
    RECIPES,
    ClassifierArguments,
)
from keras_cbam.training.arguments import stored

# The least that a recipe asks for.
LEAST = {
    "default": {},
    "fine-tuning": {"recipe": "fine-tuning", "backbone": "MobileNetV2", "weights": "imagenet"},
    "paper": {"recipe": "paper", "data": "images"},
}
COMMON = {
    **{"data": None, "attention": "cbam", "weights": None, "class_weights": None},
    **{"label_smoothing": 0.0, "freeze_epochs": None, "decay_epochs": None, "seed": 0},
    **{"precision": "float32", "xla": False, "early_stopping": None, "strict": False},
}


def of_names(arguments, names):
    return {name: getattr(arguments, name) for name in names}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            LEAST["default"],
            {
                **{"backbone": "ResNet14", "backbone_arguments": {}, "epochs": 8},
                **{"where": "auto", "image_size": 32, "batch_size": 128},
                **{"learning_rate": 0.15, "weight_decay": 0.0, "augment": "flip"},
            },
        ),
        # Another network has none of the arguments and sites of the default one.
        (
            {"backbone": "MobileNetV2", "batch_size": 8},
            {
                **{"backbone": "MobileNetV2", "backbone_arguments": {}, "where": "auto"},
                **{"image_size": 32, "batch_size": 8, "learning_rate": 0.15},
            },
        ),
        (
            {"backbone": "MobileNet", "backbone_arguments": {"alpha": 0.25}, "where": "pw_1_relu"},
            {"backbone_arguments": {"alpha": 0.25}, "where": "pw_1_relu"},
        ),
        (
            {"backbone": "MobileNet", "weights": "imagenet"},
            {"weights": "imagenet", "learning_rate": 0.01, "weight_decay": 1e-4, "epochs": 8},
        ),
        (
            {"backbone": "MobileNet", "weights": "imagenet", "learning_rate": 0.2},
            {"weights": "imagenet", "learning_rate": 0.2},
        ),
        ({"weights": "none", "attention": "none"}, {"attention": None, "learning_rate": 0.15}),
        (
            LEAST["fine-tuning"],
            {
                **{"weights": "imagenet", "backbone": "MobileNetV2", "backbone_arguments": {}},
                **{"where": "auto", "image_size": 96, "epochs": 9, "freeze_epochs": 2},
                **{"batch_size": 32, "learning_rate": 0.003, "weight_decay": 1e-4},
                "augment": "flip",
            },
        ),
        (
            LEAST["paper"],
            {
                **{"data": "images", "backbone": "ResNet50", "backbone_arguments": {}},
                **{"where": None, "image_size": 224, "epochs": 90, "batch_size": 256},
                **{"learning_rate": 0.1, "decay_epochs": 30, "weight_decay": 1e-4},
                "augment": "crop",
            },
        ),
    ],
)
def test_defaults(given, expected):
    found = ClassifierArguments.given(**given)
    assert of_names(found, {**COMMON, **expected}) == {**COMMON, **expected}


def test_defaults_are_of_arguments():
    fields = {field.name: field for field in dataclasses.fields(ClassifierArguments)}
    for defaults in RECIPES.values():
        # What a recipe sets must be told from what is not given.
        assert all(fields[name].default is None for name in defaults)
    assert ONLY_OF.keys() < fields.keys()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("name", "value"),
    [("freeze_epochs", 1), ("decay_epochs", 1), ("where", "auto"), ("weights", "imagenet")],
)
def test_what_only_some_recipes_have(recipe, name, value):
    given = {**LEAST[recipe], name: value}
    if recipe == "default":
        given["backbone"] = "MobileNet"
    if recipe in ONLY_OF[name]:
        assert getattr(ClassifierArguments.given(**given), name) == value
        return
    with pytest.raises(ValueError, match=f"`{name}` is not for the recipe '{recipe}'.*{name}="):
        ClassifierArguments.given(**given)


@pytest.mark.parametrize(
    ("recipe", "given", "message"),
    [
        ("default", {"recipe": "best"}, "`recipe` must be one of .*Received: recipe='best'"),
        ("default", {"weights": "imagenet"}, "ResNet14 has no weights to load.*weights='imagenet'"),
        (
            "default",
            {"backbone_arguments": {"attention": "se"}},
            "must not hold what the recipe sets: attention",
        ),
        ("default", {"image_size": 31}, "`image_size` must be an integer of at least 32"),
        ("default", {"image_size": 32.5}, "Received: image_size=32.5"),
        ("default", {"augment": "turn"}, r"`augment` must be one of \('flip', 'crop', 'none'\)"),
        ("default", {"class_weights": "equal"}, "`class_weights` must be one of .*'balanced'"),
        ("default", {"label_smoothing": 1}, "`label_smoothing` must be a number of at least 0 and"),
        ("default", {"label_smoothing": -0.1}, "Received: label_smoothing=-0.1"),
        ("default", {"weight_decay": -1.0}, "Received: weight_decay=-1.0"),
        ("default", {"weight_decay": float("inf")}, "Received: weight_decay=inf"),
        ("default", {"epochs": 0}, "Received: epochs=0"),
        ("fine-tuning", {"freeze_epochs": -1}, "Received: freeze_epochs=-1"),
        ("fine-tuning", {"freeze_epochs": True}, "Received: freeze_epochs=True"),
        ("fine-tuning", {"freeze_epochs": 10}, "Received: freeze_epochs=10, epochs=9"),
        ("fine-tuning", {"weights": None}, "needs `weights`: a network with random weights has"),
        ("fine-tuning", {"weights": "none"}, "needs `weights`.*Received: weights=None"),
        ("fine-tuning", {"backbone": None}, "needs `backbone`.*Received: backbone=None"),
        ("paper", {"data": None}, "needs `data`. Received: data=None"),
        ("paper", {"decay_epochs": 0}, "Received: decay_epochs=0"),
        ("paper", {"backbone": "ResNet51"}, "Did you mean .*'ResNet50'.*backbone='ResNet51'"),
        ("paper", {"backbone": "VGG16"}, "Unknown network of the CBAM paper. Known: 'ResNet18'"),
        (
            "paper",
            {"backbone_arguments": {"num_classes": 5, "width": 0.5}},
            "must not hold what the recipe sets: num_classes. Received: backbone_arguments=",
        ),
    ],
)
def test_bad_arguments(recipe, given, message):
    with pytest.raises(ValueError, match=message):
        ClassifierArguments.given(**{**LEAST[recipe], **given})


def test_networks_of_the_paper_are_those_of_the_package():
    for name in PAPER_NETWORKS:
        assert callable(getattr(models, name))


@pytest.mark.parametrize("name", ["data", "weights"])
def test_a_file_is_found_from_another_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.npz").touch()
    given = {name: "file.npz", "backbone": "MobileNet", "output": "run"}
    earlier = stored(vars(ClassifierArguments.given(**given)))
    assert earlier[name] == os.fspath(tmp_path / "file.npz")
    # The same again is the same.
    for given in ({}, {name: "file.npz"}):
        found = ClassifierArguments.given(earlier, resume="run", **given)
        assert getattr(found, name) == earlier[name]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_of_each_recipe_is_resumed_with_what_was_stored(recipe):
    first = ClassifierArguments.given(**LEAST[recipe], output="run", attention="none")
    found = ClassifierArguments.given(stored(vars(first)), resume="run", epochs=100)
    assert found == dataclasses.replace(first, resume="run", epochs=100)
    assert found == ClassifierArguments.given(
        stored(vars(first)), **LEAST[recipe], resume="run", epochs=100, attention="none"
    )
