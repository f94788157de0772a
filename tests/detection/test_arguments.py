import dataclasses
import subprocess
import sys

import pytest

from keras_cbam.detection import DetectorArguments
from keras_cbam.training.arguments import stored
from tests.detection.folders import write_voc


def test_defaults_are_filled_in():
    found = DetectorArguments.given()
    assert (found.epochs, found.batch_size, found.learning_rate) == (18, 16, 3e-3)
    assert (found.data, found.weights, found.attention) == ("scenes", None, "cbam")
    assert DetectorArguments.given(epochs=2).epochs == 2


def test_what_the_command_calls_none():
    found = DetectorArguments.given(attention="none", weights="none")
    assert found.attention is found.weights is None


def test_paths_are_whole_and_names_are_not_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("scenes", "photos"):
        (tmp_path / name).mkdir()
    for name in ("imagenet", "own.npz"):
        (tmp_path / name).touch()
    assert DetectorArguments.given(data="scenes").data == "scenes"
    assert DetectorArguments.given(data="./scenes").data == str(tmp_path / "scenes")
    assert DetectorArguments.given(data="photos").data == str(tmp_path / "photos")
    given = {"backbone": "MobileNet"}
    assert DetectorArguments.given(weights="imagenet", **given).weights == "imagenet"
    assert DetectorArguments.given(weights="own.npz", **given).weights == str(tmp_path / "own.npz")


PAPER = {"recipe": "paper", "weights": "imagenet"}


def test_the_run_of_a_classifier_stands_for_its_model(tmp_path):
    given = {"backbone": "MobileNet", "weights": tmp_path}
    with pytest.raises(ValueError, match=r"the path of a file or of a run.*model\.keras"):
        DetectorArguments.given(**given)
    (tmp_path / "model.keras").touch()
    found = DetectorArguments.given(**given)
    assert found.weights == str(tmp_path / "model.keras")
    assert found.freeze_batch_norm
    assert not DetectorArguments.given(**given, freeze_batch_norm=False).freeze_batch_norm


def test_several_numbers_are_written_with_commas():
    given = {"detector": "faster_rcnn", "short_side": "480, 600", "epochs": 5}
    found = DetectorArguments.given(**PAPER, **given)
    assert (found.short_side, found.decay_iterations) == ((480, 600), (350_000,))
    earlier = stored(vars(found))
    assert DetectorArguments.given({**earlier, "output": "run"}) == dataclasses.replace(
        found, output="run"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"detector": "sdd"}, "Received: detector='sdd'"),
        ({"image_size": 31}, "at least 32. Received: image_size=31"),
        ({"image_size": 96.0}, "Received: image_size=96.0"),
        ({"epochs": 0}, "Received: epochs=0"),
        ({"learning_rate": -1.0}, "Received: learning_rate=-1.0"),
        ({"train_scenes": 0}, "Received: train_scenes=0"),
        ({"test_scenes": 2.5}, "Received: test_scenes=2.5"),
        ({"augment": True}, "Received: augment=True"),
        ({"precision": "float8"}, "Received: precision='float8'"),
        ({"detector": "retinanet"}, "Received: detector='retinanet'"),
        ({"weights": "gone.h5", "backbone": "MobileNet"}, r"Received: weights='gone\.h5'"),
        ({"weights": "imagenet"}, "starts from random weights"),
        ({"recipe": "papers"}, "Received: recipe='papers'"),
        ({"recipe": "paper"}, "`weights` must be given for.*Received: weights=None"),
        ({"iterations": 5}, "is for the recipe 'paper'. Received: iterations=5"),
        (
            {"decay_iterations": "5"},
            r"is for the recipe 'paper'. Received: decay_iterations=\(5,\)",
        ),
        ({**PAPER, "decay_iterations": "9,5"}, "must rise, up to `iterations`"),
        ({**PAPER, "decay_iterations": 10**9}, "must rise, up to `iterations`"),
        ({"short_side": "9,x"}, "separated by commas. Received: short_side='9,x'"),
        ({"short_side": 2.5}, "separated by commas. Received: short_side=2.5"),
        ({"short_side": ()}, "Received: short_side=()"),
        ({"short_side": 97}, r"at most 96. Received: short_side=\(97,\)"),
        ({"freeze_batch_norm": 2}, "Received: freeze_batch_norm=2"),
        ({"train_split": "a"}, "`data` must be a folder with splits. Received: data='scenes'"),
        ({"weight_decay": -1}, "Received: weight_decay=-1"),
    ],
)
def test_wrong_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        DetectorArguments.given(**given)


EARLIER = vars(DetectorArguments.given(attention="none"))


def test_a_run_is_resumed_by_the_same_words():
    assert DetectorArguments.given(EARLIER, attention="none", epochs=20).epochs == 20
    with pytest.raises(ValueError, match=r"`attention` was None\. Received: attention='se'"):
        DetectorArguments.given(EARLIER, attention="se")


def test_they_are_read_without_keras():
    code = (
        "import sys; sys.argv = ['keras-cbam']\n"
        "import keras_cbam.detection.arguments\n"
        "print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


WITHOUT = """
import sys
for name in ("keras_hub", "keras_cv", "faster_coco_eval", "defusedxml", "defusedxml.ElementTree"):
    sys.modules[name] = None
import keras_cbam.detection as detection
import keras
for name in detection.__all__:
    getattr(detection, name)
truth = detection.clothing_scenes(1)
network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(1, 1, 2)])
for use in (
    lambda: detection.small_backbone(),
    lambda: detection.coco_metrics(truth, [None]),
    lambda: detection.voc_folder(sys.argv[1]),
    lambda: detection.detection_backbone(network, [1], library="keras_cv"),
):
    try:
        use()
    except ImportError as error:
        print(str(error).split("`")[1])
"""


def test_the_extra_is_named_when_it_is_needed(tmp_path):
    folder = str(write_voc(tmp_path))
    code = [sys.executable, "-c", WITHOUT, folder]
    run = subprocess.run(code, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    expected = 3 * ["pip install keras_cbam[detection]"] + ["pip install keras_cbam[keras-cv]"]
    assert run.stdout.splitlines() == expected


IMPORTS = """
import time
import keras, tensorflow
start = time.process_time()
import keras_cbam.detection as detection
for name in detection.__all__:
    getattr(detection, name)
print(time.process_time() - start)
import sys
print(sorted({"keras_cv", "keras_hub", "pycocotools"} & set(sys.modules)))
"""


def test_the_room_is_imported_in_a_second():
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    seconds, heavy = run.stdout.splitlines()
    assert float(seconds) < 1
    assert heavy == "[]"
