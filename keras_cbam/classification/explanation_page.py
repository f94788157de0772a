"""The page of `keras-cbam explain`: one HTML file with all images and maps in it.

It needs neither script nor network, and forbids the browser both. It is well-formed XML too.
"""

import base64
import html
import io
import string
from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_cbam.errors import printable
from keras_cbam.visualization.colours import (
    DIVERGING,
    LEAST_REACH,
    SEQUENTIAL,
    Scale,
    coloured,
    number,
    overlay,
)
from keras_cbam.visualization.rows import Row

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'" />
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --bar: #0072b2 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: 1rem }
h1, h2, h3, code { overflow-wrap: anywhere } h1 { font-size: 1.6rem } h2 { font-size: 1.3rem }
h3 { font-size: 1rem; margin: 1.6rem 0 0 } code, small { font-size: .85rem; opacity: .8 }
section { border: 1px solid var(--line); border-radius: .6rem; padding: 0 1rem 1rem }
section + section { margin-top: 1.5rem } p { margin: .2rem 0 .6rem; max-width: 46rem }
.row { display: grid; gap: 1rem;
 grid-template-columns: repeat(auto-fill, minmax(min(13.5rem, 42%), 1fr)) }
figure { margin: 0 } figcaption { font-size: .85rem }
img, svg { width: 100%; display: block; border-radius: .3rem }
img.map { image-rendering: pixelated } svg { background: #8881; font-size: 8px }
.scale { height: .6rem; border-radius: .3rem } .$sequential { background: $sequential_colours }
.$diverging { background: $diverging_colours }
.ends { display: flex; justify-content: space-between; font-size: .8rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem } td { padding: .1rem 0 }
td + td { text-align: right; width: 3.5rem } td i { display: block; height: .35rem;
 background: var(--bar); border-radius: .2rem; min-width: 1px } td { overflow-wrap: anywhere }
</style>
</head>
<body>
<h1>$title</h1>
<p>Grad-CAM shows where an image speaks for a class. Attention shows by what the model multiplies
its features: the last layer at each resolution. Gates above 1 strengthen, gates below 1 weaken;
a map that is nearly constant hardly selects anything. A map under 4 x 4 is told in numbers only.
A map is no proof of a reason.</p>
$notes$sections</body>
</html>
""")


def explanation_page(title: str, notes: Sequence[str], images: Sequence[tuple]) -> bytes:
    """The page: `images` are triples of a name, its rows, and the name of its figure's file."""
    colours = {"sequential": SEQUENTIAL, "diverging": DIVERGING}
    gradients = {f"{name}_colours": _gradient(own) for name, own in colours.items()}
    page = _PAGE.substitute(
        title=_text(title),
        notes="".join(f"<p>{_text(line)}</p>\n" for line in notes),
        sections="".join(_section(*one) for one in images),
        **colours,
        **gradients,
    )
    return page.encode()


def _text(text):
    return html.escape(printable(text))


def _gradient(colours):
    stops = (255 * coloured(np.linspace(0, 1, 9), Scale(0, 1, colours))).astype(int)
    return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b})' for r, g, b in stops)})"


def _section(name, rows, figure):
    first, *_ = rows
    height, width = first.image.shape[:2]
    shown = _image(first.image, f"{name} as the model takes it", f"image, {width} x {height}")
    parts = [_row(row, name, shown if row is first else "") for row in rows]
    note = f"<p><small>For print: <a href='{_text(figure)}'>{_text(figure)}</a></small></p>\n"
    return f"<section>\n<h2>{_text(name)}</h2>\n{''.join(parts)}{note}</section>\n"


def _row(row: Row, name, shown):
    parts = [shown]
    what = f"{row.heading}, {row.name}"
    if row.values is not None:
        parts.append(_image(coloured(row.values, row.scale), f"Map of {what}", "map", "map"))
        blended = overlay(row.image, row.values, row.scale)
        low, high, colours = row.scale
        marks = [low, *([1.0] if colours == DIVERGING else []), high]
        ends = "".join(f"<span>{number(mark)}</span>" for mark in marks)
        bar = f'<div class="scale {colours}"></div><div class="ends">{ends}</div>'
        parts.append(_image(blended, f"Map of {what} over {name}", "map over image", more=bar))
    if row.channels is not None:
        parts.append(_curve(row.channels, what))
    if row.classes:
        parts.append(f"<table>{''.join(_class(*one) for one in row.classes)}</table>\n")
    heading = f"<h3>{_text(row.heading)} <code>{_text(row.name)}</code></h3>"
    lines = _text("; ".join(row.lines))
    return f'{heading}\n<p><small>{lines}</small></p>\n<div class="row">\n{"".join(parts)}</div>\n'


def _class(name, probability):
    bar = f'<i style="width: {100 * probability:.1f}%"></i>'
    return f"<tr><td>{_text(name)}{bar}</td><td>{probability:.4f}</td></tr>\n"


def _image(pixels, alt, caption, kind="", more=""):
    drawn = io.BytesIO()
    whole = Image.fromarray(np.round(255 * pixels).astype("uint8"))
    whole.save(drawn, "PNG", optimize=True)
    data = base64.b64encode(drawn.getvalue()).decode()
    source = f'src="data:image/png;base64,{data}" width="{whole.width}" height="{whole.height}"'
    image = f'<img class="{kind}" alt="{_text(alt)}" {source} style="height: auto" />'
    return f"<figure>{image}{more}<figcaption>{_text(caption)}</figcaption></figure>\n"


def _curve(gates, what):
    """All gates, sorted, as a line of SVG."""
    highest, lowest = float(gates[0]), float(gates[-1])
    reach = max(highest - lowest, 2 * LEAST_REACH)
    heights = 50 - 60 * (gates - (highest + lowest) / 2) / reach
    places = np.linspace(6, 94, len(heights))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights))
    label = _text(f"Channel gates of {what}: from {number(highest)} down to {number(lowest)}")
    line = f'<polyline fill="none" stroke="var(--bar)" stroke-width="2" points="{points}" />'
    ends = "".join(
        f'<text x="{x}" y="{y:.1f}" fill="currentColor" text-anchor="{side}">{text}</text>'
        for x, y, side, text in (
            (6, heights[0] - 6, "start", number(highest)),
            (94, heights[-1] + 13, "end", number(lowest)),
        )
    )
    drawing = f'<svg viewBox="0 0 100 100" role="img" aria-label="{label}">{line}{ends}</svg>'
    return f"<figure>{drawing}<figcaption>{len(gates)} channels, sorted</figcaption></figure>\n"
