import re
import shutil
import subprocess
import xml.etree.ElementTree

import keras
import numpy as np
import pytest
from PIL import Image

from keras_cbam import CBAM, insert_attention
from keras_cbam.classification.explain import explain_images, explain_run
from keras_cbam.errors import DataError, ModelError
from keras_cbam.visualization.class_maps import class_activation
from tests.classification.runs import cut_short, framed_images, network, save_image, write_run
from tests.visualization.models import classifier


@pytest.fixture(scope="module")
def model():
    return classifier(size=(16, 16))


@pytest.fixture
def photos(tmp_path):
    return [str(save_image(tmp_path / "photos" / f"{k}.png", 40 * k)) for k in range(3)]


class Page:
    """A page as XML, which a page that is well formed is too."""

    def __init__(self, path):
        self.source = path.read_text(encoding="utf-8")
        self.root = xml.etree.ElementTree.fromstring(self.source)
        self.text = " ".join("".join(self.root.itertext()).split())

    def all(self, tag):
        return list(self.root.iter(tag))


# Runs


@pytest.mark.slow
def test_a_trained_run(trained_run, tmp_path):
    images = framed_images(tmp_path / "images", count=1)
    output = tmp_path / "out"
    result = explain_run(trained_run, [images], str(output))
    assert [one["explained_class"] for one in result["images"]] == ["bright", "dark"]
    assert [one["predictions"][0]["class"] for one in result["images"]] == ["bright", "dark"]
    names = ("00_explained.png", "00_explained_2.png", "index.html")
    assert result["written"] == [str(output / name) for name in names]
    assert all((output / name).exists() for name in names)
    assert f"{trained_run / 'model.keras'} sees" in Page(output / "index.html").text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"recipe": "default"}, "bright"), ({"recipe": "paper"}, "dark")],
)
def test_images_are_prepared_as_in_the_training(tmp_path, arguments, expected):
    images = framed_images(tmp_path / "images", count=1)
    run = write_run(tmp_path / "run", images, **arguments)
    result = explain_run(run, [images / "bright"], tmp_path / "out")
    assert [one["explained_class"] for one in result["images"]] == [expected]


def test_a_model_without_a_run(tmp_path):
    images = framed_images(tmp_path / "images", count=1)
    network().save(tmp_path / "bare.keras")
    result = explain_run(tmp_path / "bare.keras", [images / "dark"], tmp_path / "out", 0)
    assert result["images"][0]["explained_class"] == "class 0"
    assert result["images"][0]["predictions"][0]["class"] == "class 1"


# Images


def test_figures_and_page(model, photos, tmp_path):
    output = tmp_path / "new" / "explanation"
    names = ["<cat>", "dog", "hen", "cow"]
    explained, skipped = explain_images(model, photos, output, class_names=names)
    assert skipped == []
    assert [explanation.image for explanation in explained] == photos
    files = {path.name for path in output.iterdir()}
    assert files == {*(f"{k}_explained.png" for k in range(3)), "index.html"}
    for explanation in explained:
        assert (explanation.layer, explanation.size) == ("gate_1", (14, 14))
        with Image.open(explanation.figure) as figure:
            assert min(figure.size) > 400
            assert figure.info["dpi"] == pytest.approx((160, 160), abs=0.5)
    page = Page(output / "index.html")
    assert len(page.all("section")) == len(page.all("table")) == 3
    assert "<cat>" in page.text
    for explanation in explained:
        first = explanation.predictions[0]
        assert f"{first['class']}{first['probability']:.4f}" in page.text
        heading = f"{explanation.explained_class}: {first['probability']:.2f} gate_1"
        assert f"{heading} Grad-CAM, relative to its maximum; from 14 x 14 positions" in page.text
    assert page.text.count("full size, block 1, 14 x 14 gate_1 spatial gate: 0.") == 3
    assert page.text.count("deviation") >= 12


def test_the_page_needs_nothing_but_itself(model, photos, tmp_path):
    explain_images(model, photos, tmp_path)
    page = Page(tmp_path / "index.html")
    sources = [image.get("src") for image in page.all("img")]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    # The image, and the map and the overlay of Grad-CAM and of two layers: each once.
    assert len(sources) == len(photos) * 7
    assert len(set(sources)) == len(sources)
    assert not {"script", "link", "iframe"} & {element.tag for element in page.root.iter()}
    assert [link.get("href") for link in page.all("a")] == [f"{k}_explained.png" for k in range(3)]
    assert not any(word in page.source for word in ("http:", "https:", "@import", "url("))
    assert "default-src 'none'" in page.all("meta")[2].get("content")
    texts = [image.get("alt") for image in page.all("img")]
    assert f"{photos[0]} as the model takes it" in texts
    assert all(texts)
    assert len(set(texts)) >= len(photos) * 3
    assert all(curve.get("aria-label") for curve in page.all("svg"))


# The parent of the page measures it: the page itself may run no script.
MEASURE = """<!DOCTYPE html><iframe src="index.html" style="width: {}px; height: 900px"></iframe>
<script>onload = () => {{
const page = document.querySelector("iframe").contentDocument
const images = [...page.images]
const isLoaded = one => one.complete && one.naturalWidth && one.getBoundingClientRect().width > 99
document.body.dataset.width = page.documentElement.scrollWidth
document.body.dataset.images = images.length
document.body.dataset.loaded = images.filter(isLoaded).length
document.body.dataset.columns = new Set(images.map(one => one.getBoundingClientRect().left)).size
}}</script>"""


@pytest.mark.parametrize(("width", "columns"), [(390, 2), (1280, 3)])
def test_the_page_in_a_browser(model, photos, tmp_path, width, columns):
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip(f"needs a browser, one of {', '.join(names)}")
    explain_images(model, photos, tmp_path, class_names=["cat", "d" * 80, "hen", "cow"])
    (tmp_path / "measure.html").write_text(MEASURE.format(width))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [browser, *flags, profile, "--dump-dom", (tmp_path / "measure.html").as_uri()]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    found = {name: int(value) for name, value in re.findall(r'data-(\w+)="(\d+)"', run.stdout)}
    assert found["images"] == found["loaded"] == len(photos) * 7
    # Nothing is wider than the window, without its scroll bar.
    assert found["width"] <= width
    assert found["columns"] == columns


def test_predictions_are_those_of_the_model(model, photos, tmp_path):
    explained, _ = explain_images(model, photos, tmp_path / "out")
    pixels = [
        np.asarray(Image.open(photo).crop((8, 0, 56, 48)).resize((16, 16), 2)) for photo in photos
    ]
    probabilities = model.predict(np.stack(pixels), verbose=0)
    for explanation, expected in zip(explained, probabilities, strict=True):
        found = {one["class"]: one["probability"] for one in explanation.predictions}
        assert explanation.explained_class == next(iter(found)) == f"class {expected.argmax()}"
        assert found == {f"class {k}": pytest.approx(expected[k], abs=1e-5) for k in range(4)}


def test_an_untrained_identity_is_told(model, photos, tmp_path):
    identity = insert_attention(classifier(attention=None, size=(16, 16)), where=["first"])
    for name, one in (("identity", identity), ("trained", model)):
        explain_images(one, photos[:1], tmp_path / name)
    told = "The attention is not trained yet: each gate is exactly 1."
    assert told in Page(tmp_path / "identity" / "index.html").text
    assert told not in Page(tmp_path / "trained" / "index.html").text


def test_a_chosen_class(model, photos, tmp_path):
    explained, _ = explain_images(model, photos, tmp_path / "out", class_index=2)
    assert {explanation.explained_class for explanation in explained} == {"class 2"}
    with pytest.raises(ValueError, match=r"from 0 to 3.*Received: class_index=4"):
        explain_images(model, photos, tmp_path / "other", class_index=4)
    assert not (tmp_path / "other").exists()


def test_images_that_cannot_be_read(model, photos, tmp_path):
    cut_short(photos[1])
    (tmp_path / "photos" / "note.jpg").write_text("no image")
    explained, skipped = explain_images(model, [tmp_path / "photos"], tmp_path / "out")
    assert [explanation.image for explanation in explained] == [photos[0], photos[2]]
    assert sorted(line.split(": ")[0] for line in skipped) == [
        photos[1],
        str(tmp_path / "photos" / "note.jpg"),
    ]
    assert "note.jpg: not a JPEG" in Page(tmp_path / "out" / "index.html").text
    with pytest.raises(DataError, match=r"None of the images can be read.*1\.png"):
        explain_images(model, [photos[1]], tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_more_images_than_a_batch_and_names_alike(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_cbam.classification.explain.BATCH_SIZE", 2)
    strange = save_image(tmp_path / "a b<script>" / "0.png", 200)
    explained, _ = explain_images(model, [*photos, strange], tmp_path / "out")
    names = [explanation.figure.name for explanation in explained]
    endings = ("0_explained", "0_explained_2", "1_explained", "2_explained")
    assert names == [f"{ending}.png" for ending in endings]
    page = Page(tmp_path / "out" / "index.html")
    assert not page.all("script")
    assert str(strange) in page.text


def test_files_are_replaced_only_on_request(model, photos, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    figure = output / "1_explained.png"
    figure.write_text("mine")
    (output / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=r"out/1_explained\.png' exists already"):
        explain_images(model, photos, output)
    assert figure.read_text() == "mine"
    assert not (output / "0_explained.png").exists()
    explain_images(model, photos, output, overwrite=True)
    assert figure.stat().st_size > 1000
    assert (output / "thesis.tex").exists()


def test_images_are_never_replaced(model, photos, tmp_path):
    folder = tmp_path / "photos"
    explain_images(model, photos[:1], folder)
    figure = folder / "0_explained.png"
    before = figure.read_bytes()
    with pytest.raises(DataError, match=r"0_explained\.png' would replace one of the images"):
        explain_images(model, [photos[0], str(figure)], folder, overwrite=True)
    assert figure.read_bytes() == before


def test_an_output_that_is_a_file(model, photos, tmp_path):
    with pytest.raises(NotADirectoryError, match=r"is a file, not a folder"):
        explain_images(model, photos, photos[0])


@pytest.mark.parametrize("name", ["$x_$ a^.png", "\u732b.png", "a" * 200 + ".png"])
def test_strange_names(model, name, tmp_path):
    path = str(save_image(tmp_path / name, 9))
    names = ["$x_$", "\u732b", "b" * 100, "a name of several words that is rather long"]
    explained, _ = explain_images(model, [path], tmp_path / "out", class_names=names)
    assert all(explanation.figure.exists() for explanation in explained)


def test_a_model_without_attention(photos, tmp_path):
    plain = classifier(attention=None, size=(16, 16))
    explained, _ = explain_images(plain, photos, tmp_path / "out")
    assert len(explained) == 3


def test_models_that_take_no_images(photos, tmp_path):
    with pytest.raises(ModelError, match=r"square images of 3 channels"):
        explain_images(classifier(), photos, tmp_path / "out")
    inputs = [keras.Input((8, 8, 3)) for _ in range(2)]
    x = keras.layers.GlobalAveragePooling2D()(CBAM()(keras.layers.Add()(inputs)))
    with pytest.raises(ModelError, match=r"one input and one output, received 2 and 1"):
        explain_images(keras.Model(inputs, x), photos, tmp_path / "out")


def test_probabilities_of_logits(photos, tmp_path):
    model = classifier(end=None, size=(16, 16))
    explained, _ = explain_images(model, photos, tmp_path / "out")
    for explanation in explained:
        assert sum(one["probability"] for one in explanation.predictions) == pytest.approx(1)
    assert class_activation(model, np.zeros((1, 16, 16, 3))).probabilities.shape == (1, 4)
