"""What a classifier sees in pictures: predictions, Grad-CAM and attention, drawn and on a page."""

import base64
import dataclasses
import html
import io
import json
import os
import pathlib
import re
import string
import warnings

import numpy as np

from keras_cbam.classification.evaluate import input_size
from keras_cbam.data.image_files import read_pictures
from keras_cbam.errors import DataError, printable
from keras_cbam.visualization import panels
from keras_cbam.visualization.attention_maps import attention_maps, has_attention
from keras_cbam.visualization.grad_cam import class_activation

PAGE = "index.html"
# Classes in a picture's table.
BEST = 5
# Letters of a file name that are kept.
STEM_LENGTH = 50
# Pictures at once.
BATCH_SIZE = 16

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.4 sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100% }
table { border-collapse: collapse; margin: 0.5rem 0 }
td, th { padding: 0.15rem 1rem 0.15rem 0; text-align: left }
td:last-child { text-align: right }
section { border-top: 1px solid #ccc }
</style>
</head>
<body>
<h1>$title</h1>
<p>Grad-CAM shows where a picture speaks for the class named above it. Attention: the maps by which
the model multiplies its features, the last layer of each resolution, and its strongest channels.
</p>
$skipped$sections</body>
</html>
""")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """One picture explained.

    Attributes:
        picture: string, the path of the picture.
        explained_class: int, the class of the Grad-CAM map.
        best: list of pairs `(class, probability)`, the likeliest five classes.
        figure: `pathlib.Path` of the PNG.
    """

    picture: str
    explained_class: int
    best: list
    figure: pathlib.Path


def run_report(model_path, part, name):
    """An entry of the report of the run that a model file belongs to, or `None`.

    Args:
        model_path: path of a `.keras` file.
        part: string, the part of the report that the entry is in.
        name: string, of the entry.
    """
    report = pathlib.Path(model_path).with_name("report.json")
    if not report.is_file():
        return None
    try:
        return json.loads(report.read_text())[part][name]
    except (ValueError, KeyError, TypeError, RecursionError):
        # Another program's report.
        return None


def run_class_names(model_path, classes):
    """The class names in the report of the run that a model file belongs to, or `None`.

    Args:
        model_path: path of a `.keras` file.
        classes: int, how many there must be.
    """
    names = run_report(model_path, "data", "class_names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return [printable(name) for name in names] if is_list and len(names) == classes else None


def explain_pictures(
    model, paths, output, class_index=None, class_names=None, overwrite=False, title=None
):
    """Writes one PNG for each picture, `<name>_explained.png`, and a page that holds them all.

    A PNG has the picture, its Grad-CAM map, the likeliest classes, and the attention maps if there
    are any. The centre square of each picture is used, at the size of the model's input.

    Args:
        model: `keras.Model` from pixels in [0, 255], `(batch, size, size, 3)`, to one score for
            each class.
        paths: list of the paths of JPEG, PNG, BMP or GIF pictures.
        output: path of the folder to write to; other files in it stay.
        class_index: int, class of the Grad-CAM maps. Defaults to `None`: the predicted one.
        class_names: list of strings. Defaults to `None`: classes are called by their number.
        overwrite: bool, whether files of the same names are replaced. Defaults to `False`.
        title: string, of the page. Defaults to `None`: the model's name.

    Returns:
        A list of `Explanation`, and a list of lines `"path: reason"` on pictures that could not be
        read.

    Raises:
        ModelError: if the model has other inputs or outputs.
        DataError: if no picture can be read, or a figure would replace one.
        ValueError: if there is no such class, or a name for each is missing.
        FileExistsError: if a file would be replaced.
        ImportError: without Matplotlib: `pip install keras_cbam[plot]`.
        OSError: if the files cannot be written.

    Example:

    >>> model = keras.models.load_model("run/model.keras")
    >>> explained, skipped = explain_pictures(model, ["cat.jpg"], "explanation")
    """
    panels.figure_class()
    size = input_size(model)
    paths = [os.fspath(path) for path in paths]
    output = pathlib.Path(output)
    panels.check_class_names(class_names, model.output_shape[-1])
    figures = [output / name for name in figure_names(paths, "explained")]
    refuse_to_lose_files([*figures, output / PAGE], paths, overwrite)
    explained, skipped, drawn = [], [], []
    for start in range(0, len(paths), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        pictures, failures = read_pictures(paths[part], size)
        good = [index for index, failure in enumerate(failures) if failure is None]
        for path, failure in zip(paths[part], failures):
            if failure is not None:
                skipped.append(f"{printable(path)}: {failure}")
        if not good:
            continue
        activation = class_activation(model, pictures[good], class_index)
        maps = _maps(model, pictures[good])
        for row, index in enumerate(good):
            order = np.argsort(-activation.probabilities[row], kind="stable")[:BEST]
            best = [(int(i), float(activation.probabilities[row, i])) for i in order]
            explanation = Explanation(
                paths[start + index], int(activation.classes[row]), best, figures[start + index]
            )
            own_maps = {name: _one(scores, row) for name, scores in maps.items()}
            figure = _draw(
                pictures[index] / 255, activation.maps[row], own_maps, explanation, class_names
            )
            drawn.append(as_png(figure))
            explained.append(explanation)
    if not explained:
        raise DataError(f"None of the pictures can be read: {skipped[0]}.")
    # At the end, so that what fails on the way leaves nothing behind.
    output.mkdir(parents=True, exist_ok=True)
    for explanation, png in zip(explained, drawn):
        # A link to a file elsewhere is replaced itself.
        explanation.figure.unlink(missing_ok=True)
        explanation.figure.write_bytes(png)
    sections = [_section(one, png, class_names) for one, png in zip(explained, drawn)]
    _write_page(output / PAGE, title or f"What {model.name} sees", skipped, sections)
    return explained, skipped


def refuse_to_lose_files(files, pictures, overwrite):
    """Raises an error if writing the files would replace one of the pictures, or another file."""
    folder = files[0].parent
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"The output {str(folder)!r} is a file, not a folder.")
    own = set(map(os.path.realpath, pictures))
    for path in files:
        if os.path.realpath(path) in own:
            raise DataError(
                f"The figure {str(path)!r} would replace one of the pictures; choose another "
                "folder."
            )
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(
                f"The file {str(path)!r} exists already. "
                "Choose another --output, or pass --overwrite to replace it."
            )


def as_png(figure):
    """The bytes of a PNG."""
    drawn = io.BytesIO()
    with warnings.catch_warnings():
        # Matplotlib's own font lacks many scripts: their letters become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(drawn, format="png", dpi=90)
    return drawn.getvalue()


def figure_names(paths, ending):
    """File names of their own, after those of the pictures: `"cat_explained.png"`."""
    names = []
    for path in paths:
        stem = re.sub(r"[^\w.-]", "_", printable(pathlib.Path(path).stem))[:STEM_LENGTH]
        name, number = f"{stem}_{ending}.png", 1
        while name.lower() in {taken.lower() for taken in names}:
            number += 1
            name = f"{stem}_{ending}_{number}.png"
        names.append(name)
    return names


def _maps(model, pictures):
    if not has_attention(model):
        return {}
    return panels.last_of_each_size(attention_maps(model, pictures))


def _one(scores, row):
    return scores._replace(
        **{
            name: None if gate is None else gate[row : row + 1]
            for name, gate in scores._asdict().items()
        }
    )


def _draw(picture, grad_cam, maps, explanation, class_names):
    heights = [3.1] + ([panels.attention_height(maps)] if maps else [])
    figure = panels.new_figure(max(9.5, 2.4 * (1 + len(maps))), sum(heights))
    parts = panels.split(figure, len(heights), heights)
    axes = parts[0].subplots(1, 3, gridspec_kw={"width_ratios": [1, 1.2, 1.6]})
    name = printable(pathlib.Path(explanation.picture).name)
    panels.draw_picture(axes[0], picture, panels.wrapped(name))
    label = panels.class_label(explanation.explained_class, class_names)
    title = panels.wrapped(f"Grad-CAM, {label}")
    drawn = panels.draw_overlay(axes[1], picture, grad_cam, title, limits=(0, 1))
    bar = parts[0].colorbar(drawn, ax=axes[1], fraction=0.046)
    bar.set_label("relative to its maximum", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    panels.draw_bars(
        axes[2],
        [probability for _, probability in explanation.best],
        [panels.shortened(panels.class_label(i, class_names)) for i, _ in explanation.best],
        "probability",
    )
    axes[2].set_xlim(0, 1)
    axes[2].set_title("likeliest classes", fontsize=8)
    if maps:
        panels.draw_attention(parts[1], picture, maps)
    return figure


def _section(explanation, png, class_names):
    rows = "".join(
        f"<tr><td>{html.escape(panels.class_label(index, class_names))}</td>"
        f"<td>{probability:.4f}</td></tr>\n"
        for index, probability in explanation.best
    )
    name = html.escape(printable(explanation.picture))
    data = base64.b64encode(png).decode()
    return (
        f"<section>\n<h2>{name}</h2>\n"
        f"<table>\n<tr><th>class</th><th>probability</th></tr>\n{rows}</table>\n"
        f'<img alt="Grad-CAM and attention of {name}" src="data:image/png;base64,{data}">\n'
        "</section>\n"
    )


def _write_page(path, title, skipped, sections):
    left_out = ""
    if skipped:
        lines = "".join(f"<li>{html.escape(line)}</li>\n" for line in skipped)
        left_out = f"<p>Not readable:</p>\n<ul>\n{lines}</ul>\n"
    page = _PAGE.substitute(title=html.escape(title), skipped=left_out, sections="".join(sections))
    path.unlink(missing_ok=True)
    path.write_text(page, encoding="utf-8")
