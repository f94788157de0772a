"""The command `keras-cbam`."""

import sys

from keras_cbam.commands import convert, cost, detect, evaluate, explain, export, paper, train
from keras_cbam.commands.parser import Parser
from keras_cbam.errors import (
    CheckpointError,
    DataError,
    ExportError,
    ModelError,
    TrainingError,
    TrainingStopped,
    WeightsError,
    printable,
)

COMMANDS = (train, evaluate, explain, export, detect, convert, cost, paper)


def _parser():
    parser = Parser(prog="keras-cbam", description="CBAM attention for Keras image models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(arguments=None):
    """Runs the command. Returns 0, 1 (data, files, differences), 2 (usage) or 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (
        CheckpointError,
        DataError,
        ExportError,
        ImportError,
        ModelError,
        TrainingError,
        WeightsError,
    ) as error:
        code, message = 1, error
    except FileExistsError as error:
        code, message = 2, error
    except OSError as error:
        code, message = 1, f"{error.strerror}: {error.filename!r}" if error.filename else error
    except TrainingStopped as error:
        code, message = 128 + error.signal, error
    except KeyboardInterrupt:
        code, message = 130, "Interrupted."
    except ValueError as error:
        code, message = 2, error
    print(f"keras-cbam: error: {printable(' '.join(str(message).split()))}", file=sys.stderr)
    return code
