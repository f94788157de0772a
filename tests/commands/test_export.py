import dataclasses
import json
import pathlib

import pytest

from keras_cbam.cli import main
from keras_cbam.serving.export import Export
from tests.command_line import fails, put_in_place

EXPORT = Export(
    format="litert",
    quantize="none",
    output=pathlib.Path("/served.tflite"),
    activation=None,
    data="toy",
    calibration_images=0,
    images=12,
    input_shape=(32, 32, 3),
    largest_difference=1.5e-6,
    agreement=0.75,
    accuracy=None,
    size=(2_000_000, 1_234_567),
    milliseconds={1: (3.25, 0.5)},
    skipped=[],
)
RICH = dataclasses.replace(
    EXPORT,
    format="saved_model",
    activation="softmax",
    calibration_images=256,
    accuracy=(0.5, 0.25),
    skipped=["a.png: cut short"],
)


def export(monkeypatch, result, *arguments):
    """What `export_run` is called with, as pairs of positional and named arguments."""
    calls = []

    def export_run(run, format, output, quantize="none", data=None, overwrite=False):  # noqa: A002
        calls.append((format, output, quantize, data, overwrite))
        return result

    put_in_place(monkeypatch, "classification", "export", export_run)
    assert main(["export", "run", *arguments]) == 0
    return calls


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (
            EXPORT,
            [
                "s: litert, quantization none, pixels (32, 32, 3) to probabilities",
                "Compared on 12 test images of toy:",
                "  largest difference of probabilities 1.5e-06",
                "  same likeliest class 75.00%",
                "                      Keras  litert",
                "size, MB               2.00    1.23",
                "ms an image, batch 1  3.250   0.500",
                "  served = Interpreter('s').get_signature_runner(\"serving_default\")",
            ],
        ),
        (
            RICH,
            [
                "Skipped 1 files or images:",
                "The model's scores are not probabilities: a softmax is added.",
                "int8 is from 256 training images of toy.",
                "top-1 accuracy        50.00%       25.00%",
                "  served = tf.saved_model.load('s')",
            ],
        ),
    ],
)
def test_what_is_told(result, lines, monkeypatch, capsys):
    arguments = ["--format=saved_model", "--output=s"]
    assert export(monkeypatch, result, *arguments) == [("saved_model", "s", "none", None, False)]
    printed = capsys.readouterr().out.splitlines()
    for line in lines:
        assert line in printed
    assert ("top-1 accuracy" in "\n".join(printed)) == (result is RICH)


def test_a_detector(monkeypatch, capsys):
    pytest.importorskip("keras_hub")
    from keras_cbam.detection.export import DetectorExport

    differences = {"boxes": 2e-5, "unpaired": 0.0}
    result = DetectorExport(
        format="saved_model",
        quantize="none",
        output=pathlib.Path("/s"),
        data="toy",
        calibration_images=0,
        images=12,
        detections=30,
        differences=differences,
        size=(2e6, 3e6),
        skipped=[],
    )
    export(monkeypatch, result, "--format=saved_model", "--output=s")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "s: saved_model, quantization none"
    assert lines[2:5] == [
        "Compared on 12 test images of toy:",
        "  boxes     2.0e-05",
        "  unpaired  0.0e+00",
    ]
    assert "Keras finds 30 objects in them." in lines
    assert "size, MB   2.00         3.00" in lines
    assert lines[-1].startswith("  found = served.serve(")
    result = dataclasses.replace(result, format="litert", quantize="int8", calibration_images=7)
    export(monkeypatch, result, "--format=litert", "--quantize=int8", "--output=s.tflite")
    lines = capsys.readouterr().out.splitlines()
    assert "int8 is from 7 training images of toy." in lines
    assert lines[-1].startswith("  found = served(pixels=")


def test_json_and_all_options(monkeypatch, capsys):
    arguments = ["--format=saved_model", "--output=s", "--data=d", "--overwrite", "--json"]
    assert export(monkeypatch, EXPORT, *arguments) == [("saved_model", "s", "none", "d", True)]
    told = json.loads(capsys.readouterr().out)
    assert told["output"] == "/served.tflite"
    assert told["milliseconds"] == {"1": [3.25, 0.5]}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format=pb", "--output=x"], 2, "invalid choice: 'pb'"),
        (["--output=x"], 2, "the following arguments are required: --format"),
        (
            ["--format=saved_model", "--quantize=int8", "--output=x"],
            2,
            "one of none for the format saved_model",
        ),
        (["--format=onnx", "--output=x"], 2, "must end in .onnx"),
        (["--format=saved_model", "--output=x"], 1, "'run' is not a trained model"),
    ],
)
def test_errors_are_one_sentence(arguments, code, message, capsys):
    assert message in fails(capsys, code, "run", *arguments, command="export")
