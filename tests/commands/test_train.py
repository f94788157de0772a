import json
import sys
import types

import pytest

from keras_cbam.cli import main
from keras_cbam.commands.train import TRAININGS
from tests.command_line import fails

REPORT = {
    "problems": {},
    "data": {"name": "toy", "test_images": 9, "class_names": ["cat", "dog"], "skipped": []},
    "seconds": {"training": 12.4, "total": 15.6},
    "arguments": {"image_size": 48},
}
CLASSIFIER = {
    **REPORT,
    "task": "classification",
    "accuracy": 0.75,
    "top_1_error": 25.0,
    "top_5_error": None,
    "per_class_recall": {"cat": 0.5, "dog": None},
    "largest_difference_after_reload": {"model.keras": {"probabilities": 1e-7}},
}
DETECTOR = {
    **REPORT,
    "task": "detection",
    **dict.fromkeys(("AP", "AP50", "AP75", "VOC07", "VOC10", "APs", "APm", "APl"), 0.5),
    **dict.fromkeys(("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl"), 0.25),
    "per_class": {"cat": {"AP": 0.5, "AP50": -1, "VOC07": 0.125, "VOC10": 0.25}},
    "largest_difference_after_reload": {"model.keras": {"boxes": 2e-5, "unpaired": 0.0}},
}


class Calls(list):
    """Calls of the functions that train, pairs of a task and arguments; they give a report."""

    changes = {}
    is_written = True

    def module(self, task, function, report, output):
        def train(**given):
            self.append((task, given))
            output.mkdir(exist_ok=True)
            for name in ("model.keras", "report.json"):
                (output / name).touch()
            return types.SimpleNamespace(
                report={**report, **self.changes}, output=output if self.is_written else None
            )

        return types.SimpleNamespace(**{function: train})


@pytest.fixture
def trained(monkeypatch, tmp_path):
    calls = Calls()
    for task, function, report in (
        ("classification", "train_classifier", CLASSIFIER),
        ("detection", "train_detector", DETECTOR),
    ):
        module = calls.module(task, function, report, tmp_path / "run")
        monkeypatch.setitem(sys.modules, f"keras_cbam.{task}", module)
    return calls


def write_arguments(folder, task, **arguments):
    folder.mkdir()
    told = {"task": task, "arguments": arguments}
    (folder / "arguments.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["train"], ("classification", {"output": "keras_cbam_run", "verbose": "auto"})),
        (["detect"], ("detection", {"output": "keras_cbam_run", "verbose": "auto"})),
        (
            ["train", "--epochs=2", "--attention=none", "--xla", "--output=x", "--json"],
            (
                "classification",
                {"epochs": 2, "attention": None, "xla": True, "output": "x", "verbose": 0},
            ),
        ),
        (
            ["detect", "--detector=stairnet", "--learning-rate=0.1", "--quiet"],
            (
                "detection",
                {
                    "detector": "stairnet",
                    "learning_rate": 0.1,
                    "output": "keras_cbam_run",
                    "verbose": 0,
                },
            ),
        ),
    ],
)
def test_only_what_is_given_is_passed_on(command, expected, trained):
    assert main(command) == 0
    assert trained == [expected]


@pytest.mark.parametrize("command", ["train", "detect"])
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_run_of_either_task_is_resumed(command, task, trained, tmp_path):
    fields = vars(TRAININGS[task][0].given())
    folder = write_arguments(tmp_path / "stopped", task, **fields)
    assert main([command, "--resume", str(folder), "--epochs=100"]) == 0
    assert trained == [(task, {"resume": str(folder), "epochs": 100, "verbose": "auto"})]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--epochs=1"], 2, "may be raised when a run is resumed, not lowered"),
        (["--seed=3"], 2, "`seed` was 0. Received: seed=3"),
        (["--detector=ssd"], 2, "Unknown argument `detector`"),
    ],
)
def test_what_a_resumed_run_does_not_take(options, code, message, trained, tmp_path, capsys):
    fields = vars(TRAININGS["classification"][0].given())
    folder = write_arguments(tmp_path / "stopped", "classification", **fields)
    command = "detect" if "--detector=ssd" in options else "train"
    assert message in fails(capsys, code, f"--resume={folder}", *options, command=command)
    assert trained == []


@pytest.mark.parametrize("task", ["segmentation", ["classification"], None])
def test_no_run_to_resume(task, trained, tmp_path, capsys):
    folder = write_arguments(tmp_path / "stopped", task)
    message = f"There is no run of detection to resume in '{folder}'"
    assert message in fails(capsys, 1, f"--resume={folder}", command="detect")
    assert trained == []


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("train", ["--precision=float8"], "invalid choice: 'float8'"),
        ("train", ["--epochs=0"], "`epochs` must be a positive integer"),
        ("train", ["--epochs=many"], "invalid int value: 'many'"),
        ("train", ["--image-size=16"], "at least 32"),
        ("train", ["--learning-rate=nan"], "Received: learning_rate=nan"),
        ("train", ["--backbone-argument=alpha"], "expected NAME=VALUE"),
        ("train", ["--freeze-epochs=1"], "`freeze_epochs` is not for the recipe 'default'"),
        ("train", ["--weight-decay=-1"], "Received: weight_decay=-1.0"),
        ("train", ["--no-such-option"], "unrecognized arguments"),
        ("train", ["--recipe=papre"], "invalid choice: 'papre'"),
        ("train", ["--recipe=paper", "--where=x"], "`where` is not for the recipe 'paper'"),
        (
            "train",
            ["--recipe=paper", "--data=x", "--backbone=VGG"],
            "Unknown network of the CBAM paper",
        ),
        ("train", ["--checkpoint-steps=0"], "`checkpoint_steps` must be a positive integer"),
        ("train", ["--distribute=many"], "invalid choice: 'many'"),
        ("detect", ["--detector=sdd"], "invalid choice: 'sdd'"),
        ("detect", ["--image-size=16"], "at least 32"),
        ("detect", ["--seed=-1"], "Received: seed=-1"),
        ("detect", ["train"], "unrecognized arguments: train"),
    ],
)
def test_wrong_usage(command, arguments, message, trained, capsys):
    assert message in fails(capsys, 2, *arguments, command=command)
    assert trained == []


def test_a_classifier_is_told(trained, tmp_path, capsys):
    skipped = [f"{index}.png: cut short" for index in range(12)]
    trained.changes = {"data": {**CLASSIFIER["data"], "skipped": skipped}}
    assert main(["train"]) == 0
    lines = capsys.readouterr().out.splitlines()
    folder = tmp_path / "run"
    for line in (
        "Skipped 12 files or images:",
        "  9.png: cut short",
        "  and 2 more",
        "On 9 test images of toy:",
        "accuracy 0.7500, top-1 error 25.00 %",
        "cat     0.500",
        "dog         -",
        "12 s of training, 16 s in all.",
        f"  {folder / 'model.keras'}  probabilities 1.0e-07",
        f"  {folder / 'report.json'}",
        f"  model = keras.models.load_model({str(folder / 'model.keras')!r})",
        "  probabilities = model.predict(pixels)  # (batch, 48, 48, 3), 0 to 255",
    ):
        assert line in lines
    assert "  10.png: cut short" not in lines


def test_a_detector_is_told(trained, tmp_path, capsys):
    assert main(["detect"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "      AP 0.500      AP50 0.500      AP75 0.500     VOC07 0.500     VOC10 0.500",
        "  ARmax1 0.250   ARmax10 0.250  ARmax100 0.250",
        "cat    0.500     -  0.125  0.250",
        f"  {tmp_path / 'run' / 'model.keras'}  boxes 2.0e-05, unpaired 0.0e+00",
        f"  model, class_names = load_detector({str(tmp_path / 'run')!r})",
    ):
        assert line in lines


@pytest.mark.parametrize("command", ["train", "detect"])
def test_problems_after_the_training(command, trained, tmp_path, capsys):
    trained.changes = {
        "problems": {"detections.png": "No space\nleft.", "check": "Another sentence."},
        "largest_difference_after_reload": {},
    }
    assert main([command]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "keras-cbam: error: detections.png: No space left.",
        "keras-cbam: error: check: Another sentence.",
    ]
    assert f"  {tmp_path / 'run' / 'model.keras'}" in printed.out.splitlines()
    assert main([command, "--quiet"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 2
    assert main([command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == trained.changes["problems"]


def test_a_failed_measurement_tells_the_rest(trained, tmp_path, capsys, monkeypatch):
    for name in ("accuracy", "largest_difference_after_reload"):
        monkeypatch.delitem(CLASSIFIER, name)
    trained.changes = {"problems": {"measuring": "Not finite."}}
    assert main(["train"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"  {tmp_path / 'run' / 'model.keras'}" in lines


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_a_process_that_writes_nothing_prints_nothing(option, trained, capsys):
    trained.is_written = False
    assert main(["train", option]) == 0
    assert capsys.readouterr().out == ""
    assert main(["train"]) == 0
    assert capsys.readouterr().out == ""
