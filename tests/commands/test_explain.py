import json

import pytest

from keras_cbam.cli import main
from tests.command_line import fails, put_in_place
from tests.commands.test_predict import BOXES, CLASSES


@pytest.fixture
def calls(monkeypatch):
    """Of `explain_run` of a classifier."""
    found = []

    def explain(run, paths, output, class_index=None, overwrite=False):
        found.append((paths, output, class_index, overwrite))
        return {**CLASSES, "written": ["out/a_explained.png", "out/index.html"]}

    put_in_place(monkeypatch, "classification", "explain", explain)
    return found


def test_a_classifier(calls, capsys):
    assert main(["explain", "run", "a.png", "--class=1", "--output=out", "--overwrite"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "a.png           cat 0.750, dog 0.250" in lines
    assert lines[-3:] == ["Written:", "  out/a_explained.png", "  out/index.html"]
    assert main(["explain", "run", "a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"][1] == "out/index.html"
    expected = (["a.png"], "keras_cbam_explanation", None, False)
    assert calls == [(["a.png"], "out", 1, True), expected]


def test_a_detector(calls, monkeypatch, capsys):
    def explain(run, paths, output, overwrite=False, threshold=0.5):
        calls.append((output, threshold))
        return {**BOXES, "threshold": threshold, "written": ["out/a_detected.png"]}

    put_in_place(monkeypatch, "detection", "explain", explain)
    assert main(["explain", "run", "a.png", "--threshold=0.25"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "image  found with a confidence of 0.25 or more",
        "a.png  cat 0.90, dog 0.25",
        "b.png  nothing",
        "",
        "Written:",
        "  out/a_detected.png",
    ]
    assert calls == [("keras_cbam_explanation", 0.25)]
    message = "--class is not for a run of detection. Received: --class 1"
    assert message in fails(capsys, 2, "run", "a.png", "--class=1", command="explain")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "a.png", "--class=cat"], 2, "invalid int value: 'cat'"),
        (["run", "a.png", "--threshold=1"], 2, "--threshold is not for a run of classification"),
        (["run"], 2, "the following arguments are required: IMAGE"),
    ],
)
def test_errors_are_one_sentence(calls, arguments, code, message, capsys):
    assert message in fails(capsys, code, *arguments, command="explain")
    assert calls == []
