import keras
import numpy as np
import pytest

from keras_cbam.classification import predict
from keras_cbam.classification.predict import predict_run
from keras_cbam.errors import DataError, ModelError
from tests.classification.runs import cut_short, framed_images, network, write_run


@pytest.fixture
def images(tmp_path):
    return framed_images(tmp_path / "images", count=3)


@pytest.fixture
def run(tmp_path, images):
    return write_run(tmp_path / "run", images)


def best(result):
    return [one["predictions"][0]["class"] for one in result["images"]]


def test_a_trained_run(trained_run, images):
    result = predict_run(trained_run, [images / "dark", images / "bright" / "00.png"])
    assert best(result) == ["bright", "dark", "dark", "dark"]
    paths = [str(images / "bright" / "00.png"), *(str(images / f"dark/0{k}.png") for k in range(3))]
    assert [one["image"] for one in result["images"]] == paths
    assert result["skipped"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"recipe": "default"}, "bright"), ({"recipe": "paper"}, "dark")],
)
def test_images_are_prepared_as_in_the_training(tmp_path, images, arguments, expected):
    run = write_run(tmp_path / "run", images, **arguments)
    assert best(predict_run(run, [images / "bright"])) == [expected] * 3


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (5, 2)])
def test_top(run, images, top, count):
    for one in predict_run(run, [images], top=top)["images"]:
        probabilities = [prediction["probability"] for prediction in one["predictions"]]
        assert len(probabilities) == count
        assert probabilities == sorted(probabilities, reverse=True)
        assert probabilities[0] > 0.9


@pytest.mark.parametrize("top", [0, 1.5, True])
def test_top_is_a_positive_integer(run, images, top):
    with pytest.raises(ValueError, match=f"`top` must be .* Received: top={top}"):
        predict_run(run, [images], top=top)


def test_globs_batches_and_images_that_cannot_be_read(run, images, monkeypatch):
    monkeypatch.setattr(predict, "BATCH_SIZE", 2)
    broken = [cut_short(images / "dark" / "00.png"), cut_short(images / "dark" / "01.png")]
    result = predict_run(run, [str(images / "*" / "*.png")])
    assert best(result) == ["bright"] * 3 + ["dark"]
    assert [line.split(": ")[0] for line in result["skipped"]] == list(map(str, broken))
    with pytest.raises(DataError, match=r"None of the images can be read.*dark/00\.png"):
        predict_run(run, broken)


def test_logits_of_a_model_without_a_run(tmp_path, images):
    file = tmp_path / "bare.keras"
    network(size=None, activation=None).save(file)
    result = predict_run(file, [images / "dark"], top=2)
    for one in result["images"]:
        assert [prediction["class"] for prediction in one["predictions"]] == ["class 1", "class 0"]
        assert sum(prediction["probability"] for prediction in one["predictions"]) == pytest.approx(
            1
        )


def test_a_single_score(tmp_path, images):
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")(
        keras.layers.Flatten()(inputs)
    )
    keras.Model(inputs, outputs).save(tmp_path / "one.keras")
    (one, *_) = predict_run(tmp_path / "one.keras", [images])["images"]
    assert one["predictions"] == [{"class": "class 0", "probability": 0.5}]


def test_scores_that_are_not_finite(tmp_path, images):
    model = network()
    model.layers[-1].bias.assign(np.full(2, np.nan))
    with pytest.raises(ModelError, match="scores that are not finite"):
        predict_run(write_run(tmp_path / "run", images, model), [images])
