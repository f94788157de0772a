import json
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam import models
from keras_cbam.cli import main
from keras_cbam.commands.train import RECIPES
from keras_cbam.errors import TrainingStopped
from tests.command_line import fails
from tests.data.imagenet_folder import cut_short, make_imagenet, one_layer_network

TINY = [
    "--backbone=MobileNet",
    "--backbone-argument=alpha=0.25",
    "--where=conv_pw_13_relu",
    "--epochs=1",
    "--batch-size=8",
]


def make_folder(path, classes=("cat", "dog"), pictures=3):
    generator = np.random.default_rng(0)
    for name in classes:
        (path / name).mkdir(parents=True)
        for index in range(pictures):
            pixels = generator.integers(0, 256, (40, 50, 3), dtype="uint8")
            Image.fromarray(pixels).save(path / name / f"{index}.png")
    return path


def test_train_in_a_process_of_its_own(tmp_path):
    data = make_folder(tmp_path / "data")
    (data / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    output = tmp_path / "run"
    command = [sys.executable, "-m", "keras_cbam", "train", f"--data={data}", f"--output={output}"]
    process = subprocess.run([*command, *TINY], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    report = json.loads((output / "report.json").read_text())
    assert f"Test accuracy {report['accuracy']:.4f} on 2 pictures" in process.stdout
    assert "Skipped 1 unreadable" in process.stdout
    assert "broken.png" in process.stdout
    code = process.stdout.split("Use it:\n")[1]
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    assert len(lines) == 3
    scope = {"pixels": np.zeros((2, 32, 32, 3), "uint8")}
    exec("\n".join(lines), scope)
    assert scope["probabilities"].shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone=ResNet5"], "Did you mean"),
        (["--attention=cbma"], "Did you mean 'cbam'"),
        (["--precision=float8"], "invalid choice: 'float8'"),
        (["--epochs=0"], "`epochs` must be a positive integer"),
        (["--epochs=many"], "invalid int value: 'many'"),
        (["--image-size=16"], "at least 32"),
        (["--learning-rate=nan"], "positive number"),
        (["--backbone-argument=alpha"], "expected NAME=VALUE"),
        (["--freeze-epochs=1"], "`freeze_epochs` needs `weights`"),
        (["--freeze-epochs=-1"], "at least 0. Received: freeze_epochs=-1"),
        (["--epochs=1", "--freeze-epochs=2"], "Received: freeze_epochs=2, epochs=1"),
        (["--weight-decay=-1"], "at least 0. Received: weight_decay=-1.0"),
        (["--no-such-option"], "unrecognized arguments"),
        (["--backbone=MobileNet", "--where=("], "not a valid regular expression"),
        (["--recipe=papre"], "invalid choice: 'papre'"),
        (["--decay-epochs=3"], "`--decay-epochs` is not for the recipe 'default'"),
        (["--recipe=paper"], "`data` must be the path of a folder in ImageNet's layout"),
        (["--recipe=paper", "--where=x"], "`--where` is not for the recipe 'paper'. Received: whe"),
        (["--checkpoint-steps=0"], "`checkpoint_steps` must be a positive integer"),
        (["--distribute=data_parallel"], "set the environment variable KERAS_BACKEND=jax"),
        (["--distribute=many"], "invalid choice: 'many'"),
        (["--recipe=paper", "--data=x", "--cache=x"], "`--cache` is not for the recipe 'paper'"),
        (["--recipe=paper", "--weights=imagenet"], "`--weights` is not for the recipe 'paper'"),
        (["--recipe=paper", "--freeze-epochs=1"], "`--freeze-epochs` is not for the recipe"),
        (["--recipe=paper", "--data=x", "--backbone=VGG16"], "Unknown network of the CBAM paper"),
        (["--recipe=paper", "--data=x", "--decay-epochs=0"], "Received: decay_epochs=0"),
    ],
)
def test_wrong_usage(arguments, message, capsys, tmp_path):
    output = tmp_path / "run"
    assert message in fails(capsys, 2, *arguments, f"--output={output}")
    assert not list(tmp_path.iterdir())


def test_unusable_data(capsys, tmp_path):
    output = f"--output={tmp_path / 'run'}"
    empty = tmp_path / "empty"
    empty.mkdir()
    one = make_folder(tmp_path / "one", classes=["cat"])
    hollow = make_folder(tmp_path / "hollow")
    (hollow / "bird").mkdir()
    broken = make_folder(tmp_path / "broken")
    (broken / "cat" / "x.jpg").write_bytes(b"none")
    before = sorted(tmp_path.rglob("*"))
    for data, message in (
        (tmp_path / "nowhere", "no such file or folder"),
        (empty, "at least 2 classes, received no subfolders"),
        (one, "at least 2 classes, received 1 subfolder"),
        (hollow, "The class 'bird'"),
    ):
        assert message in fails(capsys, 1, f"--data={data}", output)
    assert "x.jpg" in fails(capsys, 1, f"--data={broken}", "--strict", output)
    assert "No such weights file" in fails(capsys, 1, "--weights=nowhere.npz", output)
    assert sorted(tmp_path.rglob("*")) == before


def test_paper_recipe_and_evaluation(capsys, tmp_path, monkeypatch):
    called = {}

    def build(stem, width, **arguments):
        called.update(stem=stem, width=width, attention=arguments["attention"])
        return one_layer_network(**arguments)

    monkeypatch.setattr(models, "ResNet18", build)
    data, output = make_imagenet(tmp_path / "data", classes=8), tmp_path / "run"
    (data / "val" / "notes.txt").touch()
    arguments = [
        *(f"--data={data}", f"--output={output}", "--recipe=paper", "--backbone=ResNet18"),
        *("--backbone-argument=stem=cifar", "--backbone-argument=width=0.125", "--attention=none"),
        *("--image-size=32", "--epochs=1", "--batch-size=8", "--decay-epochs=2", "--no-flip"),
    ]
    assert main(["train", *arguments]) == 0
    assert called == {"stem": "cifar", "width": 0.125, "attention": None}
    printed = capsys.readouterr().out
    report = json.loads((output / "report.json").read_text())
    for line in (
        f"Top-1 error {report['top_1_error']:.2f} %",
        f"Top-5 error {report['top_5_error']:.2f} %",
        "Skipped 1 unreadable pictures:",
    ):
        assert line in printed.splitlines()
    given = {"attention": None, "image_size": 32, "epochs": 1, "batch_size": 8, "decay_epochs": 2}
    defaults = {"learning_rate": 0.1, "weight_decay": 1e-4, "precision": "float32", "seed": 0}
    expected = {**given, **defaults, "flip": False, "strict": False}
    assert expected.items() <= report["arguments"].items()

    evaluate = ["evaluate", str(output / "model.keras"), f"--data={data}"]
    assert main([*evaluate, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["top_1_error"] == report["top_1_error"]
    assert result["top_5_error"] == report["top_5_error"]
    assert result["pictures"] == 8
    assert main(evaluate) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "8 pictures of 8 classes, centre crops of 32 x 32 pixels" in lines
    assert f"Top-1 error {report['top_1_error']:.2f} %" in lines
    assert any("notes.txt" in line for line in lines)


def test_unusable_data_of_the_paper_recipe(capsys, tmp_path):
    arguments = ["--recipe=paper", f"--output={tmp_path / 'run'}"]
    one = make_folder(tmp_path / "one")
    assert "must have two parts" in fails(capsys, 1, *arguments, f"--data={one}")
    assert "No such file" in fails(capsys, 1, *arguments, "--data=nowhere")
    data = make_imagenet(tmp_path / "data", classes=2)
    (data / "val" / "n01" / "0.png").write_bytes(b"none")
    assert "n01/0.png: not a JPEG" in fails(capsys, 1, *arguments, f"--data={data}")
    assert not (tmp_path / "run").exists()


def test_evaluate_fails(capsys, tmp_path):
    def message(code, *arguments):
        return fails(capsys, code, *map(str, arguments), command="evaluate")

    data = make_imagenet(tmp_path / "data", classes=2)
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs), name="three")
    path = tmp_path / "model.keras"
    model.save(path)
    (tmp_path / "text.keras").write_text("text")
    assert "arguments are required: MODEL, --data" in message(2)
    assert "Received: batch_size=0" in message(2, path, "--data", data, "--batch-size=0")
    assert "no such model file" in message(1, "nowhere.keras", "--data", data)
    assert "not a Keras model" in message(1, tmp_path / "text.keras", "--data", data)
    assert "No such file" in message(1, path, "--data", "nowhere")
    assert "received 3 of the model and 2 of the folder" in message(1, path, "--data", data)
    make_imagenet(tmp_path / "data", classes=3)
    cut_short(data / "val" / "n01" / "0.png")
    assert "n01/0.png' cannot be read" in message(1, path, "--data", data)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_training(number, capsys, monkeypatch):
    def stop(**_):
        raise TrainingStopped(number, epoch=2, step=7)

    monkeypatch.setitem(RECIPES, "default", stop)
    message = fails(capsys, 128 + number)
    assert f"Stopped by {number.name} after 2 epochs and 7 steps" in message
    assert "--resume" in message


def test_output_folder_that_holds_a_run(capsys, tmp_path):
    (tmp_path / "report.json").write_text("{}")
    message = fails(capsys, 2, f"--output={tmp_path}")
    assert "already holds a run" in message
    assert "--overwrite" in message
    (tmp_path / "report.json").rename(tmp_path / "notes.txt")
    assert "not of a run: notes.txt" in fails(capsys, 2, f"--output={tmp_path}", "--overwrite")


def test_unwritable_output(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert "Not a directory" in fails(capsys, 1, f"--output={tmp_path / 'file' / 'run'}")


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["train", "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for option in ("--data", "--backbone", "--attention", "--weights", "--xla", "--no-flip"):
        assert option in text
    assert "(default: None)" not in text


def test_cost(capsys):
    assert main(["cost", "MobileNet", "--image-size=64", "--where=conv_pw_13_relu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MobileNet, pictures of 64 x 64 pixels, cbam at 1 sites"
    plain, attended = 4231976, 4231976 + 2 * 1024 * 64 + 64 + 1024 + 98 + 2
    assert lines[2].split() == ["parameters", f"{plain:,}", f"{attended:,}", "3.13%"]
    assert lines[3].split()[0] == "multiply-adds"
    assert len(lines) == 4


def test_cost_of_layers_and_as_json(capsys):
    arguments = ["cost", "MobileNet", "--image-size=32", "--where=conv_pw_13_relu"]
    assert main([*arguments, "--layers"]) == 0
    text = capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["sites"] == ["conv_pw_13_relu"]
    lines = [line.split() for line in text.splitlines()]
    for row in cost["attended"]["layers"]:
        # Keras numbers the names of unnamed layers anew in each model.
        if row["name"].startswith("conv"):
            shape = str(tuple(row["output_shape"])).split()
            counts = [f"{row[key]:,}" for key in ("parameters", "multiply_adds")]
            assert [row["name"], *shape, *counts] in lines
    total = sum(row["parameters"] for row in cost["attended"]["layers"])
    assert total == cost["attended"]["parameters"]
    assert f"{total:,}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MobileNetV9"], "Did you mean"),
        (["MobileNet", "--attention=cbma"], "Did you mean 'cbam'"),
        (["MobileNet", "--where=nowhere"], "No site for attention"),
        (["MobileNet", "--image-size=0"], "Received: image_size=0"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_usage_of_cost(arguments, message, capsys):
    assert message in fails(capsys, 2, *arguments, command="cost")
