"""Parsers, and the options that are generated from the arguments of a training."""

import argparse
import ast
import dataclasses
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
    """A new parser for one verb, whose options have `run` and `show`."""
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run, show=show)
    parser.add_argument(
        "--json", action="store_true", help="print JSON on standard output, and nothing else there"
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def add_training_options(parser, arguments, defaults):
    """An option for each argument of a training; one that is not given is not among the options.

    Args:
        parser: `Parser`.
        arguments: `RunArguments`, or a class that is derived from it. A field without help has no
            option.
        defaults: `{condition: {name of an argument: value}}`, what is taken where nothing is given,
            for the help: `"default"`, `"recipe paper"` for example.
    """
    parser.usage = "%(prog)s [options]"
    fields = [field for field in dataclasses.fields(arguments) if field.metadata["help"]]
    # Within a group, flags come last.
    fields.sort(key=lambda field: field.type is bool)
    for title in GROUPS:
        group = parser.add_argument_group(title)
        for field in fields:
            if field.metadata["group"] == title:
                _add_option(group, field, defaults)


def _add_option(group, field, defaults):
    told = field.metadata
    flag = "--" + field.name.replace("_", "-")
    option = {name: told[name] for name in ("choices", "metavar") if name in told}
    kind = field.type if field.type in (int, float, bool, dict) else str
    if kind is bool:
        option["action"] = argparse.BooleanOptionalAction if field.default else "store_true"
    elif kind is dict:
        # One at a time.
        flag = flag.removesuffix("s")
        option |= {"action": "append", "type": name_and_value}
    else:
        option["type"] = kind
    if "choices" in told and field.name in NONE:
        option["choices"] = ("none", *told["choices"])
    text = f"{told['help']}{_told_defaults(field, defaults)}".replace("%", "%%")
    group.add_argument(flag, dest=field.name, default=argparse.SUPPRESS, help=text, **option)


def _told_defaults(field, defaults):
    values = {"default": None if field.default is False else field.default} | {
        condition: given[field.name] for condition, given in defaults.items() if field.name in given
    }
    default = values["default"]
    told = [
        f"{condition}: {value}"
        for condition, value in values.items()
        if value is not None and (condition == "default" or value != default)
    ]
    return f" ({'; '.join(told)})" if told else ""


def training_arguments(options, arguments):
    """The arguments of a training that the command line gives, as a dict."""
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(arguments)
        if hasattr(options, field.name)
    }
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
