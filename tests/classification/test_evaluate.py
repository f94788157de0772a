import keras
import numpy as np
import pytest

from keras_cbam.classification.evaluate import (
    classification_report,
    evaluate_classifier,
    load_classifier,
    top_errors,
)
from keras_cbam.errors import DataError, ModelError
from tests.data.imagenet_folder import cut_short, make_imagenet


def test_report_of_a_class_without_pictures():
    report = classification_report(
        np.array([0, 0, 2]), np.eye(3)[[0, 1, 2]], ["empty below", "none", "right"]
    )
    assert report["accuracy"] == pytest.approx(2 / 3)
    assert report["per_class_recall"] == {"empty below": 0.5, "none": None, "right": 1.0}
    assert report["confusion_matrix"] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_top_errors():
    # The class of each picture comes first, second, fifth, sixth and last.
    scores = np.tile(np.arange(7.0)[::-1], (5, 1))
    assert top_errors(np.array([0, 1, 4, 5, 6]), scores) == {
        "top_1_error": pytest.approx(80.0),
        "top_5_error": pytest.approx(40.0),
    }


def test_equal_scores_are_not_right_for_every_class():
    errors = top_errors(np.arange(8), np.zeros((8, 8)))
    assert errors == {"top_1_error": 87.5, "top_5_error": 37.5}


def test_top_5_error_needs_six_classes():
    assert top_errors(np.array([0]), np.eye(5)[:1])["top_5_error"] is None
    assert top_errors(np.array([0]), np.eye(6)[:1])["top_5_error"] == 0


# Evaluation of a model on a folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_imagenet(tmp_path_factory.mktemp("data"), train=1, val=2)


def nearest_level(levels, size=None, channels=3):
    """A model whose score of a class is minus the square of the distance to its red level."""
    inputs = keras.Input((size, size, channels))
    means = keras.layers.GlobalAveragePooling2D()(inputs)
    dense = keras.layers.Dense(len(levels), name="scores")
    model = keras.Model(inputs, dense(means), name="nearest")
    levels = np.array(levels, "float32")
    kernel = np.zeros((channels, len(levels)), "float32")
    kernel[0] = 2 * levels
    dense.set_weights([kernel, -(levels**2)])
    return model


LEVELS = [30 * label for label in range(7)]


@pytest.mark.parametrize("size", [None, 40])
def test_right_model(folder, size):
    assert evaluate_classifier(nearest_level(LEVELS, size), folder, batch_size=4) == {
        "top_1_error": 0.0,
        "top_5_error": 0.0,
        "accuracy": 1.0,
        "pictures": 14,
        "classes": 7,
        "image_size": size or 224,
        "skipped": [],
    }


def test_wrong_model(folder):
    # Of the levels in reverse, that of the middle class is right, and the two at either end are
    # further from their pictures than five others.
    result = evaluate_classifier(nearest_level(LEVELS[::-1], 32), folder / "train")
    assert result["pictures"] == 7
    assert result["accuracy"] == pytest.approx(1 / 7)
    assert result["top_1_error"] == pytest.approx(600 / 7)
    assert result["top_5_error"] == pytest.approx(400 / 7)


def two_inputs():
    inputs = [keras.Input((32, 32, 3)) for _ in range(2)]
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(inputs))
    return keras.Model(inputs, outputs, name="two")


def features():
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, keras.layers.Conv2D(7, 3)(inputs), name="features")


def not_finite():
    model = nearest_level(LEVELS, 32)
    model.get_layer("scores").bias.assign(np.full(7, np.nan))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (two_inputs, "'two' must have one input and one output, received 2 and 1"),
        (features, r"'features' must give a score .* output shape \(None, 30, 30, 7\)"),
        (lambda: nearest_level(LEVELS, channels=1), r"input shape \(None, None, None, 1\)"),
        (
            lambda: nearest_level(LEVELS[:5]),
            "'nearest' must have as many classes .* received 5 of the model and 7 of the folder",
        ),
        (not_finite, "'nearest' gives scores that are not finite"),
    ],
)
def test_models_that_cannot_be_evaluated(folder, model, message):
    with pytest.raises(ModelError, match=message):
        evaluate_classifier(model(), folder)


def test_pictures_that_are_not_square():
    inputs = keras.Input((32, 48, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(ModelError, match=r"input shape \(None, 32, 48, 3\)"):
        evaluate_classifier(model, "nowhere")


def test_batch_size():
    with pytest.raises(ValueError, match="Received: batch_size=0"):
        evaluate_classifier(nearest_level(LEVELS), "nowhere", batch_size=0)


def test_damaged_picture_is_not_left_out(tmp_path):
    make_imagenet(tmp_path)
    path = cut_short(tmp_path / "val" / "n03" / "0.png")
    with pytest.raises(DataError, match=rf"The picture '{path}' cannot be read: .*truncated"):
        evaluate_classifier(nearest_level(LEVELS, 32), tmp_path)


# Loading


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(ModelError, match=r"There is no such model file as 'nowhere\.keras'"):
        load_classifier("nowhere.keras")
    with pytest.raises(ModelError, match="no such model file"):
        load_classifier(tmp_path)
    nearest_level(LEVELS).save(tmp_path / "a.keras")
    content = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "text.keras").write_text("text")
    for name in ("a.zip", "text.keras"):
        with pytest.raises(ModelError, match=f"{name}' is not a Keras model saved as .keras"):
            load_classifier(tmp_path / name)
    place = content.index(b"GlobalAveragePooling2D")
    (tmp_path / "bad.keras").write_bytes(content[:place] + b"X" + content[place + 1 :])
    with pytest.raises(ModelError, match=r"bad.keras' cannot be loaded: ") as error:
        load_classifier(tmp_path / "bad.keras")
    assert "\n" not in str(error.value)
    assert load_classifier(tmp_path / "a.keras").name == "nearest"


def test_code_in_a_model_is_not_run(tmp_path):
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Lambda(lambda x: x[:, 0, 0])(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "code.keras")
    with pytest.raises(ModelError, match=r"code.keras' cannot be loaded: .*[Ll]ambda"):
        load_classifier(tmp_path / "code.keras")
