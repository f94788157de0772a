import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest

import keras_cbam
from keras_cbam import cli
from keras_cbam.commands.export import _USE
from keras_cbam.errors import DataError, ExportError, TrainingStopped
from tests.command_line import fails

HEAVY = ("keras", "tensorflow", "numpy", "PIL", "h5py", "keras_cv", "matplotlib")
LIGHT = """
import sys
sys.argv = ["keras-cbam", *{arguments!r}]
from keras_cbam.cli import main
try:
    code = main()
except SystemExit as error:
    code = error.code
found = [name for name in {heavy!r} if name in sys.modules]
sys.exit(f"imported: {{found}}" if found else code)
"""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--help"], 0, "train a detector with attention"),
        (["--version"], 0, f"keras-cbam {keras_cbam.__version__}"),
        (["train", "--help"], 0, "--backbone-argument NAME=VALUE"),
        (["detect", "--help"], 0, "--detector"),
        (["export", "--help"], 0, "{saved_model,litert,onnx}"),
        (["train", "--no-such-option"], 2, "unrecognized arguments: --no-such-option"),
        (["train", "--epochs=0"], 2, "Received: epochs=0"),
        (["detect", "--image-size=1"], 2, "Received: image_size=1"),
        (["export", "x", "--format=onnx", "--output=x"], 2, "must end in .onnx"),
    ],
)
def test_nothing_heavy_is_imported_before_the_arguments_are_right(arguments, code, told):
    program = LIGHT.format(arguments=arguments, heavy=HEAVY)
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == code, process.stderr
    assert told in (process.stderr if code else process.stdout)


@pytest.mark.parametrize(
    ("given", "original", "expected"),
    [
        (["/venv/bin/keras-cbam", "train"], ["python", "/venv/bin/keras-cbam", "train"], True),
        (["keras-cbam.exe"], ["keras-cbam.exe"], True),
        (["-m", "train"], ["python", "-m", "keras_cbam", "train"], True),
        (["-m"], ["python", "-X", "dev", "-mkeras_cbam"], True),
        (["-m"], ["python", "-m", "keras_cbam.training.check"], False),
        (["-m", "-m", "keras_cbam"], ["python", "-m", "pytest", "-m", "keras_cbam"], False),
        (["keras-cbam.py"], ["python", "keras-cbam.py"], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)
def test_which_process_is_the_command(given, original, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert keras_cbam._is_command() == expected


@pytest.fixture
def verb(monkeypatch):
    """Puts a function in the place of what `keras-cbam cost` calls."""

    def put(run, show=lambda options, found: print("shown")):
        command = types.SimpleNamespace(
            add=lambda commands: cli.cost.add_command(commands, "cost", run, show, "", "")
        )
        monkeypatch.setattr(cli, "COMMANDS", (command,))

    return put


def raising(error):
    def run(options):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("one\n two"), 2, "one two"),
        (FileExistsError("holds a run"), 2, "holds a run"),
        (DataError("no images"), 1, "no images"),
        (ExportError("differs"), 1, "differs"),
        (ImportError("pip install x"), 1, "pip install x"),
        (FileNotFoundError(2, "No such file", "a\nb"), 1, "No such file: 'a\\nb'"),
        (OSError("disk full"), 1, "disk full"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (TrainingStopped(signal.SIGINT, 2, 7), 130, "Stopped by SIGINT after 2 epochs and 7 steps"),
        (TrainingStopped(signal.SIGTERM, 0, 1), 143, "`--resume` continues"),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(error, code, told, verb, capsys):
    verb(raising(error))
    assert told in fails(capsys, code, command="cost")


def test_an_error_of_ours_is_not_hidden(verb):
    verb(raising(TypeError("a bug")))
    with pytest.raises(TypeError, match="a bug"):
        cli.main(["cost"])


@pytest.mark.parametrize(
    ("arguments", "out", "code"),
    [
        ([], "printed\nshown\n", 0),
        (["--quiet"], "", 0),
        (["--json"], '{\n  "path": "a"\n}\n', 0),
    ],
)
def test_what_goes_to_standard_output(arguments, out, code, verb, capsys):
    def run(options):
        print("printed")
        return {"path": pathlib.Path("a")}

    verb(run)
    assert cli.main(["cost", *arguments]) == code
    assert capsys.readouterr() == (out, "")


@pytest.mark.parametrize(("arguments", "is_noted"), [([], True), (["--quiet"], False)])
def test_warnings_of_ours_are_notes_and_those_of_others_are_not_seen(
    arguments, is_noted, verb, capsys
):
    def run(options):
        def warn(module, category=UserWarning):
            told = {"message": f"From\n {module}.", "category": category, "lineno": 1}
            warnings.warn_explicit(filename="x.py", module=module, **told)

        warn("keras_cbam.training.trainer")
        warn("keras_cbam.data.load", DeprecationWarning)
        warn("keras.src.trainers")
        logging.getLogger("tensorflow").warning("retracing")
        return {}

    verb(run)
    filters, level = list(warnings.filters), logging.root.manager.disable
    assert cli.main(["cost", *arguments]) == 0
    assert capsys.readouterr().err == "Note: From keras_cbam.training.trainer.\n" * is_noted
    assert warnings.filters == filters
    assert logging.root.manager.disable == level


def test_a_verb_is_required(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([])
    assert exit_info.value.code == 2
    told = "keras-cbam: error: the following arguments are required: COMMAND\n"
    assert capsys.readouterr().err == told


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny run, and the process of the command that trained it."""
    folder = tmp_path_factory.mktemp("cli")
    generator = np.random.default_rng(0)
    arrays = {
        f"{name}_{part}": value
        for part, count in (("train", 12), ("test", 6))
        for name, value in (
            ("x", generator.integers(0, 256, (count, 32, 32, 3), dtype="uint8")),
            ("y", np.arange(count) % 3),
        )
    }
    np.savez(folder / "data.npz", **arrays)
    command = [
        *(sys.executable, "-m", "keras_cbam", "train", "--data=data.npz", "--backbone=MobileNet"),
        *("--backbone-argument=alpha=0.25", "--where=conv_pw_13_relu", "--epochs=1"),
        # At the default rate, three steps on noise end where rounding changes predictions by 5e-4.
        *("--batch-size=4", "--learning-rate=0.01", "--output=run"),
    ]
    environment = {name: value for name, value in os.environ.items() if name[:3] != "TF_"}
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert process.returncode == 0, process.stderr
    return folder / "run", process


def use(code):
    """The shape of the probabilities that a snippet gives."""
    names = {"pixels": np.zeros((2, 32, 32, 3), "uint8")}
    exec("\n".join(line.strip() for line in code.strip().splitlines()), names)
    return np.shape(names["probabilities"])


def test_the_screen_of_a_training(run):
    folder, process = run
    report = json.loads((folder / "report.json").read_text())
    assert process.stderr == ""
    few, first, epoch, *rest = process.stdout.splitlines()
    assert few.startswith("The training has only 3 steps, batch normalization needs about 100: ")
    assert first.startswith("Compiling the first step")
    # Keras' own, without a bar where there is no terminal.
    assert epoch.startswith("3/3 - ")
    assert rest[1] == "On 6 test images of data.npz:"
    assert rest[2].startswith(f"accuracy {report['accuracy']:.4f}, top-1 error ")
    for name in ("model.keras", "saved_model", "report.json", "attention.png"):
        assert f"  {folder / name}" in process.stdout
    assert use(process.stdout.split("Use it:\n")[1]) == (2, 3)


def test_evaluate_gives_the_numbers_of_the_report(run, capsys):
    report = json.loads((run[0] / "report.json").read_text())
    assert cli.main(["evaluate", str(run[0]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("accuracy", "top_1_error", "per_class_recall", "confusion_matrix"):
        assert found[name] == report[name]


@pytest.mark.slow
def test_what_is_printed_to_use_an_export(run, tmp_path, capsys, short_turns):
    pytest.importorskip("ai_edge_litert")
    output = tmp_path / "model.tflite"
    assert cli.main(["export", str(run[0]), "--format=litert", f"--output={output}"]) == 0
    code = capsys.readouterr().out.split("Use it:\n")[1]
    assert str(output) in code
    assert use(code) == (2, 3)
    assert use(_USE["saved_model"].format(path=str(run[0] / "saved_model"))) == (2, 3)
