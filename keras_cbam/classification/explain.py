"""The verb `explain`: predictions, Grad-CAM and attention of images, drawn and on a page."""

import dataclasses
import os
import pathlib
import typing
from collections.abc import Sequence

import keras

from keras_cbam.classification.evaluate import input_size, load_classifier, preprocessing
from keras_cbam.classification.explanation_page import explanation_page
from keras_cbam.classification.predict import likeliest_classes
from keras_cbam.data.image_sources import image_batches
from keras_cbam.data.listing import find_images
from keras_cbam.errors import printable
from keras_cbam.training.saved_run import SavedRun
from keras_cbam.visualization import panels
from keras_cbam.visualization.class_maps import class_activation
from keras_cbam.visualization.figure_files import (
    as_png,
    figure_names,
    refuse_to_lose_files,
    write_files,
)
from keras_cbam.visualization.layer_maps import (
    AttentionScores,
    described_maps,
    has_attention,
    is_untrained,
)
from keras_cbam.visualization.rows import (
    UNTRAINED,
    attention_rows,
    draw_rows,
    grad_cam_row,
    last_of_each_size,
    size_of,
)

PAGE = "index.html"
# Classes in an image's table.
BEST = 5
# Images at once.
BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Explanation:
    """An image explained.

    Attributes:
        image: string, its path.
        explained_class: string, the class of the Grad-CAM map.
        predictions: list of the likeliest classes, dicts `{"class", "probability"}`.
        figure: path of the PNG.
        layer: string, path of the layer whose feature maps Grad-CAM used.
        size: tuple, height and width of these feature maps.
    """

    image: str
    explained_class: str
    predictions: list
    figure: pathlib.Path
    layer: str
    size: tuple


def explain_run(
    run: SavedRun | str | os.PathLike,
    paths: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    class_index: int | None = None,
    overwrite: bool = False,
) -> dict[str, typing.Any]:
    """Explains images by a saved classifier, see `explain_images`, prepared as in its training.

    Args:
        run: `SavedRun`, or the path of the folder of a run or of a `.keras` file.
        paths, output, class_index, overwrite: see `explain_images`, as for what is raised.

    Returns:
        Dict: `"images"`, a list of the fields of each `Explanation`; `"written"`, the paths of all
        files; and `"skipped"`, a line `"path: reason"` for each image that could not be read.

    Example:

    >>> explain_run("run", ["photos"], "explanation")["written"]
    """
    run, model, _ = load_classifier(run)
    resize, title = preprocessing(run.arguments), f"What {printable(run.model_file)} sees"
    explained, skipped = explain_images(
        model, paths, output, class_index, run.class_names, overwrite, resize, title
    )
    images = [{**vars(one), "figure": str(one.figure)} for one in explained]
    written = [*(image["figure"] for image in images), str(pathlib.Path(output) / PAGE)]
    return {"images": images, "written": written, "skipped": skipped}


def explain_images(
    model: keras.Model,
    paths: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    class_index: int | None = None,
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
    resize: str = "square",
    title: str | None = None,
) -> tuple[list[Explanation], list[str]]:
    """Writes `<name>_explained.png` for each image, and a page that holds them all.

    Both have the image, its Grad-CAM map, the likeliest classes and the attention maps. The page
    holds its images itself: it needs no other file and no network.

    Args:
        model: `keras.Model` from pixels in [0, 255], `(batch, size, size, 3)`, to one score for
            each class.
        paths: list of paths of images, of folders of images, and of globs, see `find_images`.
        output: path of the folder to write to; other files in it stay.
        class_index: int, class of the Grad-CAM maps. Defaults to `None`: the predicted one.
        class_names: list of strings. Defaults to `None`: classes are called by their number.
        overwrite: bool, whether files of the same names are replaced. Defaults to `False`.
        resize: `"square"` or `"center_crop"`, see `FileImages`. Defaults to `"square"`.
        title: string, of the page. Defaults to `None`: the model's name.

    Returns:
        A list of `Explanation`, and a list of lines `"path: reason"` on unreadable images.

    Raises:
        ModelError: if the model has other inputs or outputs.
        DataError: if no image can be read, or a figure would replace one.
        ValueError: if there is no such class, or a name for each is missing.
        FileExistsError, OSError: if a file would be replaced, or cannot be written.
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.

    Example:

    >>> model = keras.models.load_model("run/model.keras")
    >>> explained, skipped = explain_images(model, ["cat.jpg"], "explanation")
    """
    panels.figure_class()
    size = input_size(model)
    panels.check_class_names(class_names, model.output_shape[-1])
    paths, skipped = find_images(paths)
    output = pathlib.Path(output)
    figures = {path: output / name for path, name in zip(paths, figure_names(paths, "explained"))}
    refuse_to_lose_files([*figures.values(), output / PAGE], paths, overwrite)
    explained, drawn, rows, notes = [], [], [], []
    if has_attention(model) and is_untrained(model):
        notes.append(UNTRAINED)
    for batch, pixels in image_batches(paths, BATCH_SIZE, skipped, size, resize):
        activation = class_activation(model, pixels, class_index)
        maps = last_of_each_size(described_maps(model, pixels)) if has_attention(model) else {}
        for row, path in enumerate(batch):
            label = panels.class_label(int(activation.classes[row]), class_names)
            best = likeliest_classes(activation.probabilities[row], class_names, BEST)
            of_layer = activation.layer, activation.size
            explained.append(Explanation(path, label, best, figures[path], *of_layer))
            classes = [(one["class"], one["probability"]) for one in best]
            image = pixels[row] / 255
            first = grad_cam_row(image, label, activation, row, classes=classes)
            rows.append([first, *attention_rows(image, _of_image(maps, row))])
            drawn.append(_draw(rows[-1], printable(pathlib.Path(path).name), notes))
    unread = [f"Not readable: {line}" for line in skipped]
    shown = [(one.image, own, one.figure.name) for one, own in zip(explained, rows)]
    page = explanation_page(title or f"What {model.name} sees", [*notes, *unread], shown)
    # At the end, so that what fails on the way leaves nothing behind.
    files = {one.figure: png for one, png in zip(explained, drawn)}
    write_files({**files, output / PAGE: page})
    return explained, skipped


def _of_image(maps, row):
    """The maps of one image of a batch."""
    own = slice(row, row + 1)
    return {
        name: one._replace(
            scores=AttentionScores(*(gate if gate is None else gate[own] for gate in one.scores))
        )
        for name, one in maps.items()
    }


def _draw(rows, name, notes):
    figure = panels.new_figure(*size_of(rows))
    title = "\n".join([panels.wrapped(name, 90), *notes])
    figure.suptitle(title, fontsize=9, parse_math=False)
    draw_rows(figure, rows)
    return as_png(figure)
