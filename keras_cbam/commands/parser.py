"""Parsers, and the options that are generated from the arguments of a training."""

import argparse
import ast
import dataclasses
import pathlib
import warnings

from keras_cbam.commands.printing import error_line

RUN = "the folder of a run, or a .keras file that takes pixels in [0, 255]"
IMAGES = "image files, folders or patterns such as 'photos/*.jpg'"
GROUPS = ("network", "data", "optimization", "running", "run")
# Arguments of which "none" on the command line is None.
NONE = ("attention", "weights", "distribute")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options are not abbreviated."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, allow_abbrev=False, **options)

    def error(self, message):
        self.exit(2, error_line(message))


def add_command(commands, name, run, show, summary, description):
    """Adds the parser of a verb, whose options have `run` and `show`."""
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run, show=show)
    parser.add_argument(
        "--json", action="store_true", help="print JSON on standard output, and nothing else there"
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def file_to_write(option, name, suffix):
    """The path that an option names; ValueError if it has another suffix or there is no folder."""
    path = pathlib.Path(name)
    if path.suffix != suffix:
        raise ValueError(f"The name of the file must end in {suffix}. Received: {option} {name}")
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {str(path.parent)!r} for the file to write.")
    return path


def add_training_options(parser, arguments, defaults, without=()):
    """Adds an option for each argument with help, and its `{condition: {name: default}}`."""
    parser.usage = "%(prog)s [options]"
    fields = [field for field in dataclasses.fields(arguments) if field.metadata["help"]]
    fields = [field for field in fields if field.name not in without]
    # Within a group, flags come last.
    fields.sort(key=lambda field: field.type is bool)
    for title in GROUPS:
        group = parser.add_argument_group(title)
        for field in fields:
            if field.metadata["group"] == title:
                _add_option(group, field, defaults)


def _add_option(group, field, defaults):
    told, flag = field.metadata, "--" + field.name.replace("_", "-")
    option = {name: told[name] for name in ("choices", "metavar") if name in told}
    if field.type is bool:
        is_plain = field.default is False
        option = {"action": "store_true" if is_plain else argparse.BooleanOptionalAction}
    elif field.type is dict:
        # One at a time.
        flag = flag.removesuffix("s")
        option |= {"action": "append", "type": name_and_value}
    else:
        option["type"] = field.type if field.type in (int, float) else str
    if "choices" in option and field.name in NONE:
        option["choices"] = ("none", *option["choices"])
    values = {"default": None if field.default is False else field.default}
    values |= {name: given[field.name] for name, given in defaults.items() if field.name in given}
    default = values.pop("default")
    texts = [f"default: {default}"] if default is not None else []
    # Several numbers are given with commas.
    values = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in values.items()}
    texts += [f"{name}: {value}" for name, value in values.items() if value != default]
    text = f"{told['help']} ({'; '.join(texts)})" if texts else told["help"]
    option["help"] = text.replace("%", "%%")
    group.add_argument(flag, dest=field.name, default=argparse.SUPPRESS, **option)


def training_arguments(options, arguments):
    """The arguments of a training that the command line gives, as a dict."""
    names = {field.name for field in dataclasses.fields(arguments)}
    given = {name: value for name, value in vars(options).items() if name in names}
    for name, value in given.items():
        if name in NONE and value == "none":
            given[name] = None
        elif isinstance(value, list):
            given[name] = dict(value)
    return given


def name_and_value(text):
    """`NAME=VALUE` as a pair; the value is a Python literal, or else a string."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, received {text!r}")
    try:
        with warnings.catch_warnings():
            # Python's own, of escapes that it does not know.
            warnings.simplefilter("ignore")
            return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return name, value
