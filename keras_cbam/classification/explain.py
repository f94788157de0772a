"""The verb `explain`: predictions, Grad-CAM and attention of images, drawn and on a page."""

import base64
import dataclasses
import html
import os
import pathlib
import string
import typing
from collections.abc import Sequence

import keras

from keras_cbam.classification.evaluate import input_size, load_classifier, preprocessing
from keras_cbam.classification.predict import image_batches, likeliest_classes
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
from keras_cbam.visualization.layer_maps import attention_maps, has_attention, is_untrained

PAGE = "index.html"
# Classes in an image's table.
BEST = 5
# Images at once.
BATCH_SIZE = 16

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.4 sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100% }
td, th { padding: 0.15rem 1rem 0.15rem 0; text-align: left }
</style>
<h1>$title</h1>
<p>Grad-CAM shows where an image speaks for the class named above it. Attention: the maps by which
the model multiplies its features, the last layer of each resolution, and its strongest channels.
</p>
$skipped$sections</html>
""")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """An image explained: its path, the class of the map, the likeliest classes, and the PNG."""

    image: str
    explained_class: str
    predictions: list
    figure: pathlib.Path


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

    A PNG has the image, its Grad-CAM map, the likeliest classes and the attention maps.

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
    explained, drawn, is_identity = [], [], is_untrained(model)
    for batch, pixels in image_batches(paths, size, resize, BATCH_SIZE, skipped):
        activation = class_activation(model, pixels, class_index)
        maps = {}
        if has_attention(model):
            maps = panels.last_of_each_size(attention_maps(model, pixels))
        for row, path in enumerate(batch):
            label = panels.class_label(int(activation.classes[row]), class_names)
            best = likeliest_classes(activation.probabilities[row], class_names, BEST)
            explanation = Explanation(path, label, best, figures[path])
            own = {
                name: scores._make(gate if gate is None else gate[row : row + 1] for gate in scores)
                for name, scores in maps.items()
            }
            figure = _draw(pixels[row] / 255, activation.maps[row], own, is_identity, explanation)
            drawn.append(as_png(figure))
            explained.append(explanation)
    page = _PAGE.substitute(
        title=html.escape(title or f"What {model.name} sees"),
        skipped="".join(f"<p>Not readable: {html.escape(line)}</p>\n" for line in skipped),
        sections="".join(map(_section, explained, drawn)),
    )
    # At the end, so that what fails on the way leaves nothing behind.
    files = {one.figure: png for one, png in zip(explained, drawn)}
    write_files({**files, output / PAGE: page.encode()})
    return explained, skipped


def _draw(pixels, grad_cam, maps, is_identity, explanation):
    heights = [3.1] + ([panels.attention_height(maps)] if maps else [])
    figure = panels.new_figure(max(9.5, 2.4 * (1 + len(maps))), sum(heights))
    parts = panels.split(figure, len(heights), heights)
    axes = parts[0].subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.2, 1.6]})
    name = printable(pathlib.Path(explanation.image).name)
    panels.draw_image(axes[0], pixels, panels.wrapped(name))
    title = panels.wrapped(f"Grad-CAM, {explanation.explained_class}")
    drawn = panels.draw_overlay(axes[1], pixels, grad_cam, title, limits=(0, 1))
    panels.draw_colour_bar(parts[0], drawn, axes[1], "relative to its maximum", fraction=0.046)
    probabilities = [one["probability"] for one in explanation.predictions]
    labels = [panels.shortened(one["class"]) for one in explanation.predictions]
    panels.draw_bars(axes[2], probabilities, labels, "probability")
    axes[2].set_xlim(0, 1)
    axes[2].set_title("likeliest classes", fontsize=8)
    if maps:
        panels.draw_attention(parts[1], pixels, maps, is_identity)
    return figure


def _section(explanation, png):
    rows = "".join(
        f"<tr><td>{html.escape(one['class'])}</td><td>{one['probability']:.4f}</td></tr>\n"
        for one in explanation.predictions
    )
    name = html.escape(printable(explanation.image))
    data = base64.b64encode(png).decode()
    return (
        f"<hr>\n<h2>{name}</h2>\n"
        f"<table>\n<tr><th>class</th><th>probability</th></tr>\n{rows}</table>\n"
        f'<img alt="Grad-CAM and attention of {name}" src="data:image/png;base64,{data}">\n'
    )
