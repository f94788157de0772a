"""What the commands share: parsers, and what they print."""

import argparse
import ast
import warnings

from keras_cbam.errors import printable


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(' '.join(message.split()))}\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        is_said = action.default in (None, []) or action.const is True
        return action.help if is_said else super()._get_help_string(action)


def add_command(commands, name, run, summary, description):
    """A new parser for one command, which calls `run(options)`."""
    parser = commands.add_parser(
        name, help=summary, description=description, formatter_class=_HelpFormatter
    )
    parser.set_defaults(run=run)
    return parser


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


def none_or(name):
    """`None` where the command line says none."""
    return None if name == "none" else name


def print_skipped(skipped, what):
    if skipped:
        print(f"Skipped {len(skipped)} {what}:", *skipped[:10], sep="\n  ")


def print_errors(result):
    """Top-1 and, of six classes or more, top-5 error."""
    for name in ("top_1_error", "top_5_error"):
        if result[name] is not None:
            print(f"{name[:5].capitalize().replace('_', '-')} error {result[name]:.2f} %")
