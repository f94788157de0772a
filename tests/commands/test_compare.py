import csv
import json
import signal
import subprocess
import sys
import time

import pytest

from keras_cbam.cli import main
from tests.classification.runs import framed_images
from tests.command_line import fails

FOUND = {
    "metric": "accuracy",
    "rows": [
        {"attention": name, "seed": seed, "accuracy": value, "parameters": 1000, **step}
        for step in [{"seconds_a_step": 0.5}]
        for seed in (0, 1)
        for name, value in (("none", 0.8), ("cbam", 0.9))
    ],
    "differences": [{"attention": "cbam", "sentence": "cbam is better than none by 0.100."}],
    "output": "folder",
}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--seeds", "0"), "`seeds` must be a positive integer"),
        (("--epochs", "0"), "`epochs` must be a positive integer"),
        (("--seed", "1"), "unrecognized arguments: --seed 1"),
        (("--attention", "cbam"), "two or more different names"),
        (("--attention", "none,cbma"), "Did you mean 'cbam'"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "compare-detectors"])
def test_bad_options(command, arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in fails(capsys, 2, *arguments, command=command)
    assert not list(tmp_path.iterdir())


def test_the_table(capsys):
    from keras_cbam.commands import compare

    compare.show(None, FOUND)
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["none", "0.8000", "0.8000", "0.8000", "1,000", "0.500"]
    assert "cbam is better than none by 0.100." in lines


@pytest.mark.slow
def test_a_killed_comparison_of_own_images_is_resumed(tmp_path, capsys):
    framed_images(tmp_path / "images", count=20)
    folder = tmp_path / "out"
    options = ["--data", str(tmp_path / "images"), "--attention", "none,cbam,control"]
    options += ["--seeds", "2"]
    options += ["--epochs", "2", "--batch-size", "8", "--output", str(folder), "--quiet"]
    command = subprocess.Popen([sys.executable, "-m", "keras_cbam", "compare", *options])
    first = folder / "runs" / "none_0" / "report.json"
    while not (folder / "runs" / "cbam_0").exists():
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(signal.SIGKILL)
    command.wait()
    before = first.stat().st_mtime_ns
    assert main(["compare", "--resume", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert first.stat().st_mtime_ns == before
    with open(folder / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["attention"], row["seed"]) for row in rows] == [
        *((name, seed) for seed in ("0", "1") for name in ("none", "cbam", "control"))
    ]
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in found["rows"]]
