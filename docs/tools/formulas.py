"""Markdown extension: formulas become MathML, which browsers typeset without a script or a font.

Two forms are read, both of which GitHub shows too: `$...$` within a line, and a fenced block of the
language `math`, which the hook `site.py` gives to `block`.
"""

import latex2mathml.converter
import markdown
from markdown.inlinepatterns import InlineProcessor

# No space inside of the dollars, and no digit after them: prices are left alone.
INLINE = r"\$(?=\S)([^$\n]*?\S)\$(?!\d)"


def block(source, language, css_class, options, md, **kwargs):
    """A fenced block of pymdownx.superfences as displayed MathML."""
    return f'<div class="formula">{latex2mathml.converter.convert(source, display="block")}</div>'


class InlineFormula(InlineProcessor):
    """`$...$` as MathML within the line."""

    def handleMatch(self, match, data):  # noqa: N802
        text = latex2mathml.converter.convert(match[1])
        # The stash keeps the characters of the formula from further Markdown.
        return self.md.htmlStash.store(text), match.start(0), match.end(0)


class Formulas(markdown.Extension):
    """Registers the inline form, after code and before emphasis."""

    def extendMarkdown(self, md):  # noqa: N802
        md.inlinePatterns.register(InlineFormula(INLINE, md), "formula", 185)
