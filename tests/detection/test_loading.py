import dataclasses
import shutil

import keras
import pytest

from keras_cbam.detection import evaluate_run, export_run, load_detector, predict_run
from keras_cbam.detection.loading import load_run
from keras_cbam.errors import ModelError
from keras_cbam.training import find_run


def test_a_run_a_file_and_a_saved_run(finished, tmp_path):
    names = finished.data.class_names
    for path in (finished.output, finished.output / "model.keras", str(finished.output)):
        model, class_names = load_detector(path)
        assert class_names == names
        assert model.image_size == (32, 32)
    run, _, class_names = load_run(find_run(finished.output))
    assert (run.task, class_names) == ("detection", names)
    alone = shutil.copy(finished.output / "model.keras", tmp_path / "alone.keras")
    assert load_detector(alone)[1] is None


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("classifier") / "classifier.keras"
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)
    return path


@pytest.mark.parametrize(
    "use",
    [
        load_detector,
        lambda path: evaluate_run(path, "scenes"),
        lambda path: predict_run(path, [path]),
        lambda path: export_run(path, "saved_model", path.with_suffix("")),
    ],
)
def test_a_model_that_is_not_a_detector(classifier, use):
    with pytest.raises(ModelError, match="must be a detector of `build_detector`, received a Func"):
        use(classifier)


def test_a_run_that_names_other_classes(finished):
    run = dataclasses.replace(find_run(finished.output), class_names=["cat"])
    with pytest.raises(ModelError, match="names 1 classes, the model has 10"):
        load_run(run)


def test_a_damaged_file(finished, tmp_path):
    path = tmp_path / "broken.keras"
    path.write_bytes((finished.output / "model.keras").read_bytes()[:3000])
    with pytest.raises(ModelError, match="is not a Keras model"):
        load_detector(path)
    with pytest.raises(ModelError, match="not a trained model"):
        load_detector(tmp_path / "gone")
