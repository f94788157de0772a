import numpy as np
import pytest

from keras_cbam.classification.export import export_run
from keras_cbam.data.image_sources import open_image
from keras_cbam.errors import DataError, ExportError
from keras_cbam.serving import export
from keras_cbam.serving.runtimes import load_artefact
from tests.classification.runs import SIZE, cut_short, framed_images, network, write_run

pytestmark = pytest.mark.usefixtures("short_turns")


class SeenError(ExportError):
    """Raised in the place of a conversion."""


@pytest.fixture
def converted(monkeypatch):
    """What `convert` was given, which then ends the export."""
    given = {}

    def convert(model_file, file_format, output, quantize, activation, images):
        given.update(model_file=model_file, activation=activation, images=images)
        raise SeenError

    monkeypatch.setattr(export, "convert", convert)
    return given


@pytest.mark.slow
def test_a_trained_run(trained_run, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    output = tmp_path / "new" / "model.onnx"
    result = export_run(trained_run, "onnx", str(output), quantize="int8", samples=8)
    assert (result.format, result.quantize, result.output) == ("onnx", "int8", output)
    # One in five of the 20 images is a test image.
    assert (result.data, result.images, result.calibration_images) == ("images", 4, 8)
    assert result.input_shape == (SIZE, SIZE, 3)
    assert (result.agreement, result.accuracy, result.activation) == (1, (1, 1), None)
    assert 0 < result.largest_difference < 0.1
    assert result.skipped == []
    sizes = ((trained_run / "model.keras").stat().st_size, output.stat().st_size)
    assert result.size == sizes
    pixels = np.full((1, SIZE, SIZE, 3), 255, "float32")
    assert load_artefact("onnx", output)(pixels)["probabilities"].argmax() == 0


@pytest.mark.slow
def test_a_model_without_a_run(tmp_path):
    network(activation=None).save(tmp_path / "bare.keras")
    data = framed_images(tmp_path / "images", count=5)
    output = tmp_path / "served" / "1"
    result = export_run(tmp_path / "bare.keras", "saved_model", output, data=data)
    assert (result.activation, result.images, result.calibration_images) == ("softmax", 2, 0)
    # Cut as for ImageNet, without the frame.
    assert result.accuracy == (0.5, 0.5)
    assert result.largest_difference <= 1e-4
    assert (output / "saved_model.pb").exists()


@pytest.mark.parametrize(("recipe", "top_row"), [("default", {0, 255}), ("paper", set())])
def test_int8_learns_from_training_images_of_the_run(
    tmp_path, converted, monkeypatch, recipe, top_row
):
    decoded = []

    def opened(path, **arguments):
        decoded.append(path)
        return open_image(path, **arguments)

    monkeypatch.setattr("keras_cbam.data.image_sources.open_image", opened)
    images = framed_images(tmp_path / "images", count=25)
    run = write_run(tmp_path / "run", images, recipe=recipe)
    with pytest.raises(SeenError):
        export_run(run, "onnx", tmp_path / "a.onnx", quantize="int8", samples=4)
    assert converted["model_file"] == run / "model.keras"
    assert converted["images"].shape == (4, SIZE, SIZE, 3)
    # In the preprocessing of the training: with the frame, or without it.
    assert set(converted["images"][:, 0].ravel().tolist()) & {0, 255} == top_row
    assert 90 <= converted["images"][:, SIZE // 2].min() <= 94
    assert len(decoded) == 8, "4 to learn from and 4 to compare on"
    assert len(set(decoded)) == 8


def test_other_data(tmp_path, converted):
    run = write_run(tmp_path / "run", tmp_path / "gone")
    others = framed_images(tmp_path / "others", {"bright": 200, "dark": 10})
    with pytest.raises(SeenError):
        export_run(run, "onnx", tmp_path / "a.onnx", quantize="int8", data=others)
    assert {10, 200} <= set(converted["images"][:, 0].ravel().tolist())
    with pytest.raises(SeenError):
        export_run(run, "onnx", tmp_path / "a.onnx", data=others)
    assert converted["images"] is None


@pytest.mark.parametrize(
    ("class_names", "has_labels"), [(("bright", "dark"), True), (("cat", "dog"), False)]
)
def test_accuracy_of_the_own_classes_alone(tmp_path, monkeypatch, class_names, has_labels):
    run = write_run(tmp_path / "run", tmp_path / "gone", class_names=class_names)
    others = framed_images(tmp_path / "others", count=20)
    path = cut_short(others / "dark" / "00.png")
    given = []
    monkeypatch.setattr(
        "keras_cbam.classification.export.export_model",
        lambda *test, **told: given.append((test, told)),
    )
    export_run(run, "onnx", tmp_path / "a.onnx", quantize="int8", data=others)
    ((*_, (images, labels), calibration), told) = given[0]
    assert len(images) + len(calibration) == 39
    assert told["data"] == "others"
    assert [line.split(": ")[0] for line in told["skipped"]] == [str(path)]
    if has_labels:
        is_bright = images[:, 0].min(axis=(1, 2)) == 255
        np.testing.assert_array_equal(labels, np.where(is_bright, 0, 1))
    else:
        assert labels is None


def test_a_model_without_images(tmp_path):
    network().save(tmp_path / "bare.keras")
    with pytest.raises(ValueError, match=r"bare\.keras' is a model without a run.*pass `data`,"):
        export_run(tmp_path / "bare.keras", "saved_model", tmp_path / "1")
    run = write_run(tmp_path / "run", tmp_path / "gone")
    with pytest.raises(DataError, match=r"pass others by --data: There is no such file .*gone"):
        export_run(run, "saved_model", tmp_path / "1")
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"samples": 0}, ValueError, "`samples` must be a positive integer"),
        ({"quantize": "int8"}, ValueError, "one of none for the format saved_model"),
        ({"output": "here"}, FileExistsError, "here' exists already and is not a saved_model"),
    ],
)
def test_what_is_refused_before_anything_is_read(tmp_path, arguments, error, message):
    (tmp_path / "here").write_text("a thesis")
    output = tmp_path / arguments.pop("output", "1")
    with pytest.raises(error, match=message):
        export_run(tmp_path / "nowhere", "saved_model", output, **arguments)
