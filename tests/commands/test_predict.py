import csv
import json

import pytest

from keras_cbam.cli import main
from tests.command_line import fails, put_in_place

CLASSES = {
    "images": [
        {
            "image": "a.png",
            "predictions": [
                {"class": "cat", "probability": 0.75},
                {"class": "dog", "probability": 0.25},
            ],
        },
        {"image": "long\nname.png", "predictions": [{"class": "dog", "probability": 1.0}]},
    ],
    "skipped": ["b.png: cut short"],
}
BOXES = {
    "images": [
        {
            "image": "a.png",
            "width": 40,
            "height": 30,
            "detections": [
                {"class": "cat", "confidence": 0.9, "box": [1, 2.5, 3, 4]},
                {"class": "dog", "confidence": 0.25, "box": [0, 0, 40, 30]},
            ],
        },
        {"image": "b.png", "width": 40, "height": 30, "detections": []},
    ],
    "skipped": [],
}


@pytest.fixture(params=["classification", "detection"])
def found(request, monkeypatch):
    result = {"classification": CLASSES, "detection": BOXES}[request.param]
    put_in_place(monkeypatch, request.param, "predict", lambda run, paths, top=5: result)
    return result


TABLES = {
    False: [
        "Skipped 1 files or images:",
        "  b.png: cut short",
        "image           classes and probabilities",
        "a.png           cat 0.750, dog 0.250",
        "long\\nname.png  dog 1.000",
    ],
    True: [
        "image  found with a confidence of 0.5 or more",
        "a.png  cat 0.90",
        "b.png  nothing",
    ],
}
ROWS = {
    False: [
        ["image", "rank", "class", "probability"],
        ["a.png", "1", "cat", "0.75"],
        ["a.png", "2", "dog", "0.25"],
        ["long\nname.png", "1", "dog", "1.0"],
    ],
    True: [
        ["image", "class", "confidence", "left", "top", "right", "bottom"],
        ["a.png", "cat", "0.9", "1", "2.5", "3", "4"],
        ["a.png", "dog", "0.25", "0", "0", "40", "30"],
    ],
}


def test_a_table_json_and_csv(found, tmp_path, capsys):
    is_detection = found is BOXES
    assert main(["predict", "run", "a.png"]) == 0
    assert capsys.readouterr().out.splitlines() == TABLES[is_detection]
    assert main(["predict", "run", "a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    target = tmp_path / "found.csv"
    assert main(["predict", "run", "a.png", f"--csv={target}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Written: {target}"
    with open(target, newline="") as file:
        assert list(csv.reader(file)) == ROWS[is_detection]


def test_what_is_passed_on(monkeypatch):
    calls = []

    def predict(run, paths, top=5):
        calls.append((str(run.model_file), paths, top))
        return CLASSES

    put_in_place(monkeypatch, None, "predict", predict)
    assert main(["predict", "x.keras", "a.png", "photos/*.jpg", "--top=2", "--quiet"]) == 0
    assert main(["predict", "x.keras", "photos", "--quiet"]) == 0
    assert calls == [("x.keras", ["a.png", "photos/*.jpg"], 2), ("x.keras", ["photos"], 5)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run"], 2, "the following arguments are required: IMAGE"),
        (["run", "a.png", "--csv=b.png"], 2, "must end in .csv. Received: --csv b.png"),
        (["run", "a.png", "--csv=nowhere/b.csv"], 2, "There is no folder 'nowhere'"),
        (["nowhere", "a.png"], 1, "'nowhere' is not a trained model"),
    ],
)
def test_errors_are_one_sentence(arguments, code, message, capsys):
    assert message in fails(capsys, code, *arguments, command="predict")
