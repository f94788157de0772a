"""The command `keras-cbam`."""

import json
import sys

from keras_cbam import __version__, errors
from keras_cbam.commands import (
    compare,
    convert,
    cost,
    evaluate,
    explain,
    export,
    paper,
    predict,
    train,
)
from keras_cbam.commands.parser import Parser
from keras_cbam.commands.printing import error_line, json_form, print_skipped
from keras_cbam.commands.screen import own_lines_only

COMMANDS = (train, compare, evaluate, predict, explain, export, cost, convert, paper)
# Errors of data and files, some of which are a ValueError, which else is one of usage.
_UNUSABLE = (
    *(errors.CheckpointError, errors.DataError, errors.ExportError, errors.ModelError),
    *(errors.TrainingError, errors.WeightsError, ImportError),
)


def _parser():
    parser = Parser(prog="keras-cbam", description="CBAM attention for Keras image models.")
    parser.add_argument("--version", action="version", version=f"keras-cbam {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(arguments=None):
    """Runs the command. Returns 0, 1 (data, files, problems), 2 (usage) or 128 + a signal."""
    options = _parser().parse_args(arguments)
    try:
        with own_lines_only(options):
            found = options.run(options)
        return _tell(options, found) if found else 0
    except _UNUSABLE as error:
        code, message = 1, error
    except (FileExistsError, ValueError) as error:
        code, message = 2, error
    except OSError as error:
        code, message = 1, f"{error.strerror}: {error.filename!r}" if error.filename else error
    except errors.TrainingStopped as error:
        code, message = 128 + error.signal, error
    except KeyboardInterrupt:
        code, message = 130, "Interrupted."
    sys.stderr.write(error_line(message))
    return code


def _tell(options, found):
    """Prints what a verb found, and returns the exit code."""
    if options.json:
        print(json.dumps(found, indent=2, default=json_form))
    elif not options.quiet:
        print_skipped(found.get("skipped", ()))
        options.show(options, found)
    problems = found.get("problems", {})
    for what, sentence in problems.items():
        sys.stderr.write(error_line(f"{what}: {sentence}"))
    return 1 if problems else 0
