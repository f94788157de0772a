"""Hook of mkdocs: the pages of the site that are made from other files when it is built.

- the reference of a room, from the names that its `__init__.py` imports;
- the command's options, from the parsers of `keras-cbam`, without importing Keras;
- the notebooks, as Markdown with their images;
- the example scripts, CONTRIBUTING.md, SECURITY.md and CHANGELOG.md, as they stand;
- the first image of README.md, on the home page.

A page says where its generated text goes by a comment such as `<!-- generated: command_line -->`.
"""

import argparse
import ast
import importlib
import pathlib
import re
import sys

import nbconvert
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[2]
# mkdocs imports this file by its path.
sys.path.append(str(pathlib.Path(__file__).parent))
formulas = importlib.import_module("formulas")

MARK = re.compile(r"<!-- generated: (\w+) ?(\w*) -->")
# Links that work in the repository, as they are on the site.
LINKS = (
    (r"\]\((?:\.\./)?notebooks/(\w+)\.ipynb\)", r"](notebooks/\1.md)"),
    (r"\]\(\.\./(notebooks|benchmarks)/", r"](\1/"),
    (r"\]\(docs/", "]("),
)
FILES = ("CHANGELOG", "CONTRIBUTING", "SECURITY")


def on_config(config):
    """Formulas in the pages, as MathML."""
    config.markdown_extensions.append(formulas.Formulas())
    fence = {"name": "math", "class": "formula", "format": formulas.block}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_files(files, config):
    """Adds the pages of the notebooks, with their images and those that the pages show."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text, images = as_markdown(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, image in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=image))
    for path in (*(ROOT / "notebooks").glob("*.png"), *(ROOT / "benchmarks").glob("*.png")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Puts generated text in the place of its mark, and turns links of the repository around."""
    markdown = MARK.sub(lambda mark: GENERATORS[mark[1]](*filter(None, [mark[2]])), markdown)
    for old, new in LINKS:
        markdown = re.sub(old, new, markdown)
    return markdown


def as_markdown(path):
    """A notebook as Markdown, and its images by their names."""
    exporter = nbconvert.MarkdownExporter()
    options = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, resources = exporter.from_filename(str(path), resources=options)
    return text, resources["outputs"]


def read(name):
    return (ROOT / f"{name}.md").read_text(encoding="utf-8")


def first_image():
    """The first image of README.md, with its alternative text."""
    return re.search(r"^!\[.*\)$", read("README"), re.MULTILINE)[0]


def examples():
    """The scripts of `examples/`, each under the first line of its docstring."""
    parts = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        title = text.split('"""')[1].splitlines()[0].rstrip(".")
        parts.append(f"## {title}\n\n`examples/{path.name}`\n\n```python\n{text}```\n")
    return "\n".join(parts)


def reference(room):
    """An entry of mkdocstrings for each public name of a room, in the order of its imports."""
    tree = ast.parse((ROOT / "keras_cbam" / room / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    inside = [node for node in imports if str(node.module).startswith(f"keras_cbam.{room}.")]
    names = [alias.name for node in inside for alias in node.names]
    return "\n\n".join(f"::: keras_cbam.{room}.{name}" for name in names)


def command_line():
    """The help of every command, from its parser."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in commands._choices_actions}
    return "\n".join(
        section(name, helps[name], command) for name, command in commands.choices.items()
    )


def build_parser():
    """The parser of `keras-cbam`, which imports no Keras where the program has that name."""
    name, sys.argv[0] = sys.argv[0], "keras-cbam"
    sys.path.insert(0, str(ROOT))
    try:
        from keras_cbam import cli

        return cli._parser()
    finally:
        sys.path.remove(str(ROOT))
        sys.argv[0] = name


def section(name, summary, parser):
    """One command: its usage, its description and a table for each group of options."""
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    description = " ".join((parser.description or "").split())
    lines = [f"## {name}", f"```text\n{usage}\n```", description or summary]
    # What every command takes comes last.
    for group in sorted(parser._action_groups, key=lambda group: group.title == "options"):
        rows = [row(action) for action in group._group_actions if action.dest != "help"]
        if rows:
            titles = {"positional arguments": "arguments", "options": "output"}
            title = titles.get(group.title, group.title)
            lines.append("\n".join([f"| {title} | |", "|---|---|", *rows]))
    return "\n\n".join(lines) + "\n"


def row(action):
    """An option and what it does, with those of its choices that the help does not name."""
    formatter = argparse.HelpFormatter("keras-cbam", width=1000)
    flags = formatter._format_action_invocation(action).split(" ")
    text = formatter._expand_help(action) if action.help else ""
    if action.choices and action.option_strings and action.metavar is None:
        flags = flags[:1]
        if not all(choice in text for choice in action.choices):
            text = f"{', '.join(action.choices)}: {text}"
    flags = " ".join(f'<code class="option">{flag}</code>' for flag in map(escaped, flags))
    return f"| {flags} | {escaped(text)} |"


def escaped(text):
    """Text in a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


GENERATORS = {
    "reference": reference,
    "command_line": command_line,
    "examples": examples,
    "first_image": first_image,
    **{name.lower(): (lambda name=name: read(name)) for name in FILES},
}
