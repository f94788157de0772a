"""Runs a module of the package as a program in a fresh process."""

import json
import os
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping

from keras_cbam.errors import last_line


class FreshProcessError(RuntimeError):
    """A fresh process that failed. The message is the last line that it printed."""


def run_module(module: str, arguments: Mapping[str, typing.Any], **environment: str) -> typing.Any:
    """What the function that a module passes to `answer` returns for `arguments`, through JSON."""
    process = subprocess.run(
        [sys.executable, "-m", module, json.dumps(arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
    )
    if process.returncode:
        raise FreshProcessError(last_line(process.stderr))
    return json.loads(process.stdout.splitlines()[-1])


def answer(function: Callable[..., typing.Any]) -> None:
    """What a module of `run_module` calls: prints what its function returns, or its error."""
    try:
        found = function(**json.loads(sys.argv[1]))
    except Exception as error:
        # Converters print whole programs in their messages.
        message = " ".join(str(error).split()) or type(error).__name__
        sys.exit(message if len(message) < 500 else f"{message[:500]}...")
    print(f"\n{json.dumps(found)}")
