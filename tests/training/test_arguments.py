import dataclasses
import inspect
import json
import pathlib

import keras
import numpy as np
import pytest

from keras_cbam.classification.arguments import ClassifierArguments
from keras_cbam.detection.arguments import DetectorArguments
from keras_cbam.training.arguments import RunArguments, existing_path, stored, with_signature
from tests.training.toy_task import ToyArguments

GROUPS = {"data", "network", "optimization", "running", "run"}
EARLIER = {**stored(vars(ToyArguments.given())), "output": "run", "resume": "run"}


@pytest.mark.parametrize("arguments", [RunArguments, ClassifierArguments, DetectorArguments])
def test_every_argument_is_told(arguments):
    for field in dataclasses.fields(arguments):
        if field.name == "verbose":
            continue
        assert field.metadata["help"], field.name
        assert not field.metadata["help"].endswith("."), field.name
        assert field.metadata["group"] in GROUPS, field.name
        assert "choices" in field.metadata or "metavar" in field.metadata or field.default is False


@pytest.mark.parametrize("arguments", [ClassifierArguments, DetectorArguments])
def test_the_names_of_a_run_are_those_of_every_task(arguments):
    names = {field.name for field in dataclasses.fields(arguments)}
    assert names > {field.name for field in dataclasses.fields(RunArguments)}


def test_given():
    found = ToyArguments.given(epochs=5, seed=np.int64(3), output=pathlib.Path("run"))
    assert (found.epochs, found.seed, found.batch_size) == (5, 3, 8)
    with pytest.raises(TypeError, match=r"Unknown argument `epoch`\. Did you mean 'epochs'\?"):
        ToyArguments.given(epoch=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.epochs = 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a positive integer"),
        ({"epochs": True}, "`epochs` must be a positive integer"),
        ({"epochs": 2.0}, "`epochs` must be a positive integer"),
        ({"batch_size": 1.5}, "`batch_size` must be a positive integer"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a number above 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a number above 0"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be a number above 0"),
        ({"learning_rate": "0.1"}, "`learning_rate` must be a number above 0"),
        ({"early_stopping": 0, "output": "run"}, "`early_stopping` must be a positive integer"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"seed": 2**32}, "`seed` must be an integer of at least 0 and below"),
        ({"seed": None}, "`seed` must be an integer of at least 0"),
        ({"precision": "float8"}, "`precision` must be one of .*'mixed_bfloat16'"),
        ({"precision": None}, "`precision` must be one of"),
        ({"xla": "yes"}, "`xla` must be one of"),
        ({"distribute": "both"}, "`distribute` must be one of .*'mirrored', 'data_parallel'"),
        ({"strict": None}, "`strict` must be one of"),
        ({"overwrite": 2}, "`overwrite` must be one of"),
        ({"checkpoint_steps": 0, "output": "run"}, "`checkpoint_steps` must be a positive integer"),
        ({"tensorboard": "yes", "output": "run"}, "`tensorboard` must be one of"),
    ],
)
def test_what_is_outside_its_range(given, message):
    name = next(iter(given))
    with pytest.raises(ValueError, match=rf"{message}.*Received: {name}={given[name]!r}"):
        RunArguments(**{"epochs": 1, "batch_size": 1, "learning_rate": 1, **given}).completed()


@pytest.mark.parametrize("name", ["early_stopping", "checkpoint_steps", "tensorboard"])
def test_what_writes_needs_an_output(name):
    with pytest.raises(ValueError, match=f"`{name}` needs `output`.*{name}=.*output=None"):
        ToyArguments.given(**{name: True if name == "tensorboard" else 2})
    ToyArguments.given(**{name: True if name == "tensorboard" else 2}, output="run")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"epochs": 9}, {"epochs": 9}),
        # The same again, as the function or the command may give it.
        ({"seed": 0, "learning_rate": np.float64(0.1)}, {}),
        # What does not change the result.
        ({"verbose": 1, "checkpoint_steps": 3, "tensorboard": True}, {"checkpoint_steps": 3}),
        ({"early_stopping": 2, "output": pathlib.Path("run")}, {"early_stopping": 2}),
    ],
)
def test_resumed(given, expected):
    found = ToyArguments.given(EARLIER, resume="run", **given)
    assert found == dataclasses.replace(found, resume="run", overwrite=False, **expected)
    unchanged = EARLIER.keys() - given.keys() - {"resume"}
    assert {name: getattr(found, name) for name in unchanged} == {
        name: EARLIER[name] for name in unchanged
    }


def test_a_resumed_run_does_not_replace_itself():
    assert not ToyArguments.given({**EARLIER, "overwrite": True}, resume="run").overwrite


MAY_CHANGE = {
    *("epochs", "early_stopping", "output", "overwrite", "resume", "checkpoint_steps"),
    *("tensorboard", "verbose", "data"),
}
OTHER = {
    **{"batch_size": 3, "learning_rate": 0.2, "seed": 7, "precision": "mixed_float16"},
    **{"xla": True, "strict": True, "attention": "se", "image_size": 64, "weights": "w.npz"},
    **{"backbone": "MobileNetV2", "backbone_arguments": {"alpha": 1.0}, "where": "block1"},
    **{"augment": "none", "class_weights": "balanced", "label_smoothing": 0.1},
    **{"weight_decay": 0.1, "distribute": "mirrored", "detector": "stairnet"},
    **{"train_scenes": 3, "test_scenes": 3, "freeze_batch_norm": True, "short_side": 40},
    **{"train_split": "a", "validation_split": "b", "test_split": "c"},
}


@pytest.mark.parametrize("arguments", [ClassifierArguments, DetectorArguments])
def test_what_changes_the_result_cannot_change(arguments, tmp_path):
    fields = {field.name: field for field in dataclasses.fields(arguments)}
    assert {name for name in fields if fields[name].metadata.get("may_change")} <= MAY_CHANGE
    backbone = {"backbone": "vgg16" if arguments is DetectorArguments else "VGG16"}
    earlier = stored(vars(arguments.given(data=tmp_path, output="run", **backbone)))
    (tmp_path / "w.npz").touch()
    of_one_recipe = {"recipe", "freeze_epochs", "decay_epochs", "iterations", "decay_iterations"}
    for name in fields.keys() - MAY_CHANGE - of_one_recipe:
        value = tmp_path / "w.npz" if name == "weights" else OTHER[name]
        with pytest.raises(ValueError, match=rf"its own arguments: `{name}` was .*{name}="):
            arguments.given(earlier, resume="run", **{name: value})


def test_a_run_is_resumed_in_its_own_folder():
    with pytest.raises(ValueError, match=r"`output` was 'run'. Received: output='elsewhere'"):
        ToyArguments.given(EARLIER, resume="run", output=pathlib.Path("elsewhere"))


def test_epochs_are_not_lowered():
    with pytest.raises(ValueError, match=r"not lowered: they were 3. Received: epochs=2"):
        ToyArguments.given(EARLIER, resume="run", epochs=2)


def test_what_could_not_be_stored_is_given_again():
    earlier = stored(vars(ClassifierArguments.given(attention=str.upper, output="run")))
    with pytest.raises(ValueError, match="`attention` of the run could not be stored"):
        ClassifierArguments.given(earlier, resume="run")
    found = ClassifierArguments.given(earlier, resume="run", attention=str.upper)
    assert found.attention == str.upper


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, value) for value in ("a", 3, 0.1, True, None, [1, "b"], {"alpha": 0.5})),
        ((1, 2), [1, 2]),
        (pathlib.Path("a") / "b", "a/b"),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        ({"size": (np.int32(3), pathlib.Path("a"))}, {"size": [3, "a"]}),
    ],
)
def test_stored(value, expected):
    found = stored({"name": value})
    assert found == {"name": expected}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    "value", [str.upper, {"config": {"kernel_initializer": keras.initializers.HeNormal()}}]
)
def test_what_json_has_no_form_for_is_not_stored(value):
    assert stored({"attention": value, "epochs": 3}) == {"epochs": 3}


def test_existing_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("images").mkdir()
    assert existing_path("images") == existing_path(pathlib.Path("images")) == f"{tmp_path}/images"
    for other in ("mnist", None, 3):
        assert existing_path(other) is other


def test_signature():
    @with_signature(ToyArguments)
    def train(**arguments):
        """Trains."""

    parameters = inspect.signature(train).parameters
    assert list(parameters) == [field.name for field in dataclasses.fields(ToyArguments)]
    assert parameters["epochs"].default == 3
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
