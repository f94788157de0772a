"""Griffe extension: turns the Keras style of docstring into what mkdocstrings' Google parser reads.

`Call arguments:` becomes a section of its own, `Output:` a paragraph, `Args:` may name several
arguments on one line, and blocks of `>>>` become fenced code.
"""

import re

import griffe

SECTIONS = {"Call arguments:": "Other Parameters: Call arguments"}
PROMPTS = (">>> ", "... ")


class KerasDocstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        if obj.docstring:
            obj.docstring.value = as_google(obj.docstring.value)


def as_google(text: str) -> str:
    """The docstring in Google's style, its interactive examples as fenced blocks."""
    lines: list[str] = []
    in_fence = in_example = False
    for line in text.splitlines():
        in_fence ^= line.lstrip().startswith("```")
        starts = line.startswith(PROMPTS) and not in_fence and not in_example
        if starts:
            lines.append("```pycon")
        elif in_example and not line.strip():
            lines.append("```")
        in_example = (in_example or starts) and bool(line.strip())
        lines.append(SECTIONS.get(line, line))
    if in_example:
        lines.append("```")
    text = "\n".join(lines)
    text = re.sub(r"(?m)^Output:\s+(.+(?:\n {4}.+)*)", paragraph, text)
    # An entry of several errors may take two lines.
    text = re.sub(r"(?m)^( {4}(?:\w+, )*\w+),\n {4}(?=(?:\w+, )*\w+: )", r"\1, ", text)
    # `pooling, spatial_pooling: text` is one entry for each name.
    return re.sub(r"(?m)^( {4})(\w+(?:, \w+)+): ", several, text)


def paragraph(section: re.Match) -> str:
    return "**Output:** " + " ".join(section[1].split())


def several(entry: re.Match) -> str:
    *first, last = entry[2].split(", ")
    return "".join(f"{entry[1]}{name}: see `{last}`.\n" for name in first) + f"{entry[1]}{last}: "
