import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam.cli import main
from keras_cbam.commands import detect
from keras_cbam.training.run_folder import DETECTION_ARTEFACTS
from tests.command_line import fails
from tests.data.imagenet_folder import cut_short, save_picture

# Without the extra, the package of these skips this module too.
from tests.detection.folders import write_coco
from tests.detection.networks import tiny_detector

TINY = ["--image-size=32", "--epochs=1", "--batch-size=4", "--train-scenes=4", "--test-scenes=3"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_cbam.detection.task.build_detector", tiny_detector)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and what the command printed."""
    folder = tmp_path_factory.mktemp("detect") / "run"
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *values, **_: lines.extend(map(str, values)))
        assert main(["detect", "train", f"--output={folder}", *TINY]) == 0
    return folder, "\n".join(lines)


@pytest.fixture
def photos(tmp_path):
    wide = tmp_path / "wide.png"
    Image.fromarray(np.full((30, 70, 3), 90, "uint8")).save(wide)
    return [str(save_picture(tmp_path / "0.png", 40)), str(wide)]


def test_train(run):
    folder, printed = run
    report = json.loads((folder / "report.json").read_text())
    assert f"    AP50 {report['AP50']:.3f}" in printed
    assert f"3 test pictures of 32 x 32 pixels, {report['objects']} objects" in printed
    assert "Ankle boot" in printed
    for name in DETECTION_ARTEFACTS:
        assert f"  {folder / name}" in printed
    code = [line.strip() for line in printed.split("Use it:\n")[1].splitlines()]
    scope = {"pixels": np.zeros((2, 32, 32, 3), "float32")}
    exec("\n".join(code), scope)
    assert scope["found"]["boxes"].shape[::2] == (2, 4)
    assert scope["class_names"] == report["data"]["class_names"]


def test_evaluate(run, capsys):
    folder, _ = run
    report = json.loads((folder / "report.json").read_text())
    arguments = ["detect", "evaluate", str(folder), "--test-scenes=3"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for name in ("AP", "AP50", "ARmax100", "VOC07", "per_class", "objects"):
        assert result[name] == report[name]
    assert main(arguments) == 0
    assert "3 test pictures of 32 x 32 pixels" in capsys.readouterr().out


def test_evaluate_takes_the_seed_of_the_training(run, tmp_path, capsys):
    from keras_cbam.detection.loading import run_seed

    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    report = json.loads((folder / "report.json").read_text())
    counts = {}
    for seed in (0, 7):
        report["arguments"]["seed"] = seed
        (folder / "report.json").write_text(json.dumps(report))
        assert run_seed(folder) == run_seed(folder / "model.keras") == seed
        for given in ([], [f"--seed={seed}"]):
            arguments = ["evaluate", str(folder), "--test-scenes=5", "--json", *given]
            assert main(["detect", *arguments]) == 0
            counts.setdefault(seed, set()).add(json.loads(capsys.readouterr().out)["objects"])
    assert all(len(each) == 1 for each in counts.values())
    assert counts[0] != counts[7]
    (folder / "report.json").write_text("[]")
    assert run_seed(folder) == 0


def test_predict(run, photos, tmp_path, capsys):
    cut_short(photos[0])
    output = tmp_path / "found"
    arguments = ["predict", str(run[0]), *photos, f"--output={output}", "--threshold=0"]
    assert main(["detect", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "Skipped 1 unreadable pictures:" in printed
    assert {path.name for path in output.iterdir()} == {"wide_detected.png", "detections.json"}
    result = json.loads((output / "detections.json").read_text())
    assert len(result["skipped"]) == 1
    (one,) = result["pictures"]
    assert (one["picture"], one["width"], one["height"]) == (photos[1], 70, 30)
    assert one["detections"]
    scores = [each["confidence"] for each in one["detections"]]
    assert scores == sorted(scores, reverse=True)
    for each in one["detections"]:
        left, top, right, bottom = each["box"]
        assert 0 <= left <= right <= 70
        assert 0 <= top <= bottom <= 30
        assert each["class"] == result["class_names"][each["class_index"]]
    again = [*arguments, "--json"]
    assert "exists already. Choose another --output" in fails(capsys, 2, *again, command="detect")
    assert main(["detect", *again, "--overwrite"]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_classes_without_names(run, photos, tmp_path, capsys):
    model = str(shutil.copy(run[0] / "model.keras", tmp_path / "alone.keras"))
    output = f"--output={tmp_path / 'found'}"
    assert main(["detect", "predict", model, photos[1], output, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["class_names"] is None
    assert result["pictures"][0]["detections"][0]["class"].startswith("class ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--detector=sdd"], 2, "invalid choice: 'sdd'"),
        (["train", "--backbone=ResNet5"], 2, "Did you mean"),
        (["train", "--attention=cbma"], 2, "Did you mean 'cbam'"),
        (["train", "--image-size=16"], 2, "at least 32"),
        (["train", "--epochs=0"], 2, "`epochs` must be a positive integer"),
        (["train", "--data=nowhere"], 1, "There is no such folder as 'nowhere'"),
        (["train", "--seed=-1"], 2, "Received: seed=-1"),
        (["evaluate", "nowhere.keras", "--seed=-1"], 2, "`seed` must be an integer"),
        (["evaluate", "nowhere.keras", "--test-scenes=0"], 2, "`test_scenes` must be"),
        (["evaluate", "nowhere.keras"], 1, "There is no such model file as 'nowhere.keras'"),
        (["predict", "nowhere", "a.png"], 1, "There is no such model file as 'nowhere'"),
        ([], 2, "the following arguments are required: COMMAND"),
    ],
)
def test_errors_are_one_sentence(arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, code, *arguments, command="detect")
    assert not list(tmp_path.iterdir())


def test_unusable_output(tmp_path, capsys):
    (tmp_path / "file").touch()
    for output, code, message in (
        (tmp_path / "file", 2, "is a file"),
        (tmp_path / "file" / "run", 1, "file"),
    ):
        arguments = ("train", *TINY, f"--output={output}")
        assert message in fails(capsys, code, *arguments, command="detect")
    (tmp_path / "run.unfinished" / "checkpoints").mkdir(parents=True)
    arguments = ("train", *TINY, f"--output={tmp_path / 'run'}")
    message = fails(capsys, 2, *arguments, command="detect")
    assert "holds an unfinished run, which --overwrite replaces" in message


def test_models_and_data_that_do_not_fit(run, photos, tmp_path, capsys):
    inputs = keras.Input((32, 32, 3))
    path = str(tmp_path / "classifier.keras")
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)
    message = "must be a detector of `build_detector`, received a Functional"
    for arguments in (["evaluate", path], ["predict", path, photos[0]]):
        assert message in fails(capsys, 1, *arguments, command="detect")
    (tmp_path / "broken.keras").write_bytes((run[0] / "model.keras").read_bytes()[:3000])
    broken = ["evaluate", str(tmp_path / "broken.keras")]
    assert "not a Keras model" in fails(capsys, 1, *broken, command="detect")
    data = write_coco(tmp_path / "data")
    arguments = ["evaluate", str(run[0]), f"--data={data}"]
    assert "must have the 2 classes" in fails(capsys, 1, *arguments, command="detect")
    for extra, code, message in (
        ([str(tmp_path / "nowhere.png")], 1, "None of the pictures can be read"),
        ([photos[0], "--threshold=2"], 2, "`threshold` must be within [0, 1]"),
    ):
        arguments = ["predict", str(run[0]), *extra, f"--output={tmp_path / 'found'}"]
        assert message in fails(capsys, code, *arguments, command="detect")
    assert not (tmp_path / "found").exists()


def test_detectors_are_those_that_can_be_built():
    from keras_cbam.detection.models.build import DETECTORS

    assert detect.DETECTORS == DETECTORS


WITHOUT_KERAS_CV = """
import sys
from keras_cbam.cli import main
assert "keras_cv" not in sys.modules
sys.modules["keras_cv"] = None
sys.exit(main(["detect", "evaluate", "x.keras"]))
"""


def test_without_keras_cv():
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS_CV], capture_output=True, text=True
    )
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("keras-cbam: error: Detection needs")
    assert "pip install keras_cbam[detection]" in last
