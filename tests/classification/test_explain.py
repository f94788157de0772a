import html.parser
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam import CBAM
from keras_cbam.classification.explain import explain_pictures, run_class_names
from keras_cbam.data.image_files import read_pictures
from keras_cbam.errors import DataError, ModelError
from keras_cbam.visualization.grad_cam import class_activation
from tests.data.imagenet_folder import cut_short, save_picture
from tests.visualization.models import classifier


@pytest.fixture(scope="module")
def model():
    return classifier(size=(16, 16))


@pytest.fixture
def photos(tmp_path):
    return [str(save_picture(tmp_path / "photos" / f"{k}.png", 40 * k)) for k in range(3)]


class Page(html.parser.HTMLParser):
    """The text, the tags and the addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.text, self.tags, self.addresses = "", [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_figures_and_page(model, photos, tmp_path):
    output = tmp_path / "new" / "explanation"
    names = ["<cat>", "dog", "hen", "cow"]
    explained, skipped = explain_pictures(model, photos, output, class_names=names)
    assert skipped == []
    assert [explanation.picture for explanation in explained] == photos
    files = {path.name for path in output.iterdir()}
    assert files == {*(f"{k}_explained.png" for k in range(3)), "index.html"}
    for explanation in explained:
        with Image.open(explanation.figure) as figure:
            assert min(figure.size) > 400
    page = Page(output / "index.html")
    assert page.tags.count("img") == page.tags.count("table") == 3
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "<cat>" in page.text
    for explanation in explained:
        best, probability = explanation.best[0]
        assert re.search(rf"{re.escape(names[best])}\s*{probability:.4f}", page.text)


def test_predictions_are_those_of_the_model(model, photos, tmp_path):
    explained, _ = explain_pictures(model, photos, tmp_path / "out")
    pixels, _ = read_pictures(photos, 16)
    probabilities = model.predict(pixels, verbose=0)
    for explanation, expected in zip(explained, probabilities, strict=True):
        classes = [index for index, _ in explanation.best]
        assert explanation.explained_class == classes[0] == expected.argmax()
        np.testing.assert_allclose([p for _, p in explanation.best], expected[classes], atol=1e-5)
        assert sorted(classes) == [0, 1, 2, 3]


def test_a_chosen_class(model, photos, tmp_path):
    explained, _ = explain_pictures(model, photos, tmp_path / "out", class_index=2)
    assert {explanation.explained_class for explanation in explained} == {2}
    with pytest.raises(ValueError, match=r"from 0 to 3.*Received: class_index=4"):
        explain_pictures(model, photos, tmp_path / "other", class_index=4)
    assert not (tmp_path / "other").exists()


def test_pictures_that_cannot_be_read(model, photos, tmp_path):
    cut_short(photos[1])
    (tmp_path / "note.jpg").write_text("no picture")
    paths = [*photos, str(tmp_path / "note.jpg"), str(tmp_path / "nowhere.png"), str(tmp_path)]
    explained, skipped = explain_pictures(model, paths, tmp_path / "out")
    assert [explanation.picture for explanation in explained] == [photos[0], photos[2]]
    assert [line.split(": ")[0] for line in skipped] == [photos[1], *paths[3:]]
    assert "note.jpg: not a JPEG" in Page(tmp_path / "out" / "index.html").text
    with pytest.raises(DataError, match=r"None of the pictures can be read: .*1\.png"):
        explain_pictures(model, [photos[1]], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_more_pictures_than_a_batch_and_names_alike(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_cbam.classification.explain.BATCH_SIZE", 2)
    strange = save_picture(tmp_path / "a b<script>" / "0.png", 200)
    paths = [*photos, str(strange), photos[0]]
    explained, _ = explain_pictures(model, paths, tmp_path / "out")
    names = [explanation.figure.name for explanation in explained]
    endings = ("0_explained", "1_explained", "2_explained", "0_explained_2", "0_explained_3")
    assert names == [f"{ending}.png" for ending in endings]
    page = Page(tmp_path / "out" / "index.html")
    assert "script" not in page.tags
    assert str(strange) in page.text


def test_files_are_replaced_only_on_request(model, photos, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    figure = output / "1_explained.png"
    figure.write_text("mine")
    (output / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"out/1_explained\.png' exists already"):
        explain_pictures(model, photos, output)
    assert figure.read_text() == "mine"
    assert not (output / "0_explained.png").exists()
    explain_pictures(model, photos, output, overwrite=True)
    assert figure.stat().st_size > 1000
    assert (output / "thesis.tex").exists()


def test_pictures_are_never_replaced(model, photos, tmp_path):
    folder = tmp_path / "photos"
    explain_pictures(model, photos[:1], folder)
    figure = folder / "0_explained.png"
    before = figure.read_bytes()
    with pytest.raises(DataError, match=r"0_explained\.png' would replace one of the pictures"):
        explain_pictures(model, [photos[0], str(figure)], folder, overwrite=True)
    assert figure.read_bytes() == before


def test_an_output_that_is_a_file(model, photos, tmp_path):
    with pytest.raises(NotADirectoryError, match=r"is a file, not a folder"):
        explain_pictures(model, photos, photos[0])


@pytest.mark.parametrize("name", ["$x_$ a^.png", "\u732b.png", "a" * 200 + ".png"])
def test_strange_names(model, name, tmp_path):
    path = str(save_picture(tmp_path / name, 9))
    names = ["$x_$", "\u732b", "b" * 100, "a name of several words that is rather long"]
    explained, _ = explain_pictures(model, [path, path], tmp_path / "out", class_names=names)
    assert all(explanation.figure.exists() for explanation in explained)


def test_a_model_without_attention(photos, tmp_path):
    plain = classifier(attention=None, size=(16, 16))
    explained, _ = explain_pictures(plain, photos, tmp_path / "out")
    assert len(explained) == 3


def test_models_that_take_no_pictures(photos, tmp_path):
    with pytest.raises(ModelError, match=r"square pictures of 3 channels"):
        explain_pictures(classifier(), photos, tmp_path / "out")
    inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
    x = keras.layers.GlobalAveragePooling2D()(CBAM()(keras.layers.Add()(inputs)))
    with pytest.raises(ModelError, match=r"one input and one output, received 2 and 1"):
        explain_pictures(keras.Model(inputs, x), photos, tmp_path / "out")


def test_class_names_of_a_run(tmp_path):
    model = tmp_path / "model.keras"
    assert run_class_names(model, 2) is None
    report = tmp_path / "report.json"
    for text in ("{", "[]", '{"data": {}}', '{"data": {"class_names": 3}}', '{"data": 1}'):
        report.write_text(text)
        assert run_class_names(model, 2) is None
    report.write_text(json.dumps({"data": {"class_names": ["cat", "dog"]}}))
    assert run_class_names(model, 2) == ["cat", "dog"]
    assert run_class_names(model, 3) is None


def test_probabilities_of_logits(photos, tmp_path):
    model = classifier(end=None, size=(16, 16))
    explained, _ = explain_pictures(model, photos, tmp_path / "out")
    for explanation in explained:
        assert sum(probability for _, probability in explanation.best) == pytest.approx(1)
    assert class_activation(model, np.zeros((1, 16, 16, 3))).probabilities.shape == (1, 4)
