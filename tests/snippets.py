"""The fenced blocks of README, of the repository's other pages and of the site.

A block of Python runs, unless a comment before it says `snippet: compiled, because ...`. A block of
commands is checked line by line.
"""

import ast
import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMPILED = re.compile(r"<!-- snippet: compiled, because [^>]+ -->\n$")
LANGUAGES = {"python", "bash", "math", "text", "bibtex", "yaml"}


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A fenced block: where it is, its language and its text, and whether it runs."""

    page: pathlib.Path
    line: int
    language: str
    text: str
    runs: bool

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def imports(self):
        """The import statements of a block of Python, as one program."""
        nodes = ast.walk(ast.parse(self.text))
        found = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
        return "\n".join(map(ast.unparse, found))

    def commands(self):
        """The lines of a block of commands, continued ones as one, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in lines) if line]


def snippets(language):
    return [snippet for snippet in all_snippets() if snippet.language == language]


def all_snippets():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            before = text[: block.start()]
            runs = not COMPILED.search(before)
            yield Snippet(page, before.count("\n") + 1, block[1], block[2], runs)
