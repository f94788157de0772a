import json

import pytest

from keras_cbam.cli import main
from tests.command_line import fails, put_in_place
from tests.commands.test_train import CLASSIFIER, DETECTOR

TOLD = {"images": 12, "data": "toy", "split": "test", "skipped": ["a.png: cut short"]}


@pytest.mark.parametrize(
    ("task", "report", "line"),
    [
        (None, CLASSIFIER, "accuracy 0.7500, top-1 error 25.00 %"),
        ("classification", CLASSIFIER, "accuracy 0.7500, top-1 error 25.00 %"),
        ("detection", DETECTOR, "     APs 0.500       APm 0.500       APl 0.500"),
    ],
)
def test_the_metrics_of_each_task(task, report, line, monkeypatch, capsys):
    put_in_place(monkeypatch, task, "evaluate", lambda run: {**report, **TOLD})
    assert main(["evaluate", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    if task is None:
        assert "cropped as for ImageNet" in lines.pop(0)
    assert lines[:3] == [
        "Skipped 1 files or images:",
        "  a.png: cut short",
        "On 12 images of toy, test:",
    ]
    assert line in lines
    assert main(["evaluate", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**report, **TOLD}


@pytest.mark.parametrize(("classes", "are_shown"), [(20, True), (21, False)])
def test_classes_and_top_5_error(classes, are_shown, monkeypatch, capsys):
    recalls = {f"class {index}": 0.5 for index in range(classes)}
    found = {**CLASSIFIER, **TOLD, "top_5_error": 12.5, "per_class_recall": recalls}
    put_in_place(monkeypatch, None, "evaluate", lambda run: {**found, "split": None})
    assert main(["evaluate", "model.keras"]) == 0
    text = capsys.readouterr().out
    assert "On 12 images of toy:\n" in text
    assert "top-1 error 25.00 %, top-5 error 12.50 %\n" in text
    assert ("class 19" in text) == are_shown


def test_only_what_is_given_is_passed_on(monkeypatch):
    calls = []

    def evaluate(run, data=None, split=None, batch_size=None):
        calls.append((str(run.model_file), data, split, batch_size))
        return {**CLASSIFIER, **TOLD}

    put_in_place(monkeypatch, "classification", "evaluate", evaluate)
    assert main(["evaluate", "run", "--data=d", "--split=val", "--batch-size=3"]) == 0
    assert main(["evaluate", "run"]) == 0
    assert calls == [("run", "d", "val", 3), ("run", None, None, None)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "the following arguments are required: RUN"),
        (["run", "--split=dev"], 2, "invalid choice: 'dev'"),
        (
            ["nowhere.keras"],
            1,
            "'nowhere.keras' is not a trained model: there is no such file or folder.",
        ),
    ],
)
def test_errors_are_one_sentence(arguments, code, message, capsys):
    assert message in fails(capsys, code, *arguments, command="evaluate")


def test_a_run_of_an_unknown_task(monkeypatch, capsys):
    put_in_place(monkeypatch, "segmentation", "evaluate", lambda run: {})
    message = fails(capsys, 1, "run", command="evaluate")
    assert "'run' is a run of 'segmentation', which is not one of classification, d" in message
