"""What any configuration, image and command line must do: strategies, and properties to check.

`PROPERTIES` maps the name of each to its strategy and to a function that fails for a bad input. The
tests try a few examples of each, `benchmarks/fuzz.py` many.
"""

import contextlib
import functools
import io
import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from keras_cbam.cli import COMMANDS, main
from keras_cbam.commands.parser import Parser
from keras_cbam.data.image_files import check_headers, decoding, open_image, square, why_unreadable
from keras_cbam.errors import DataError
from tests.fuzzing_layers import (
    NUMBERS,
    attention,
    attentions,
    mutated_config,
    mutated_configs,
    valid_layer,
    valid_layers,
)

# Images


@functools.cache
def _image_files():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), "uint8")
    colour = Image.fromarray(pixels)
    palette = colour.convert("P")
    made = []
    for image, file_format, options in (
        (colour, "JPEG", {}),
        (colour, "JPEG", {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "PNG", {}),
        (palette, "PNG", {"transparency": 3}),
        (Image.fromarray(pixels[..., 0].astype("uint16") * 257), "PNG", {}),
        (colour, "BMP", {}),
        (palette, "BMP", {}),
        (palette, "GIF", {}),
        (palette, "GIF", {"save_all": True, "append_images": [palette] * 2}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        made.append(buffer.getvalue())
    return made


@st.composite
def image_bytes(draw):
    """Image files cut, changed, put together, or none at all."""
    content = bytearray(draw(st.sampled_from(_image_files())))
    for _ in range(draw(st.integers(0, 6))):
        # Half of the damage is in the first bytes, where the structure is.
        end = draw(st.sampled_from([min(60, len(content)), len(content)]))
        place = draw(st.integers(0, end))
        change = draw(st.sampled_from(["cut", "set", "insert", "delete", "append", "repeat"]))
        if change == "cut":
            del content[place:]
        elif change == "set":
            new = draw(st.binary(min_size=1, max_size=4))
            content[place : place + len(new)] = new
        elif change == "insert":
            content[place:place] = draw(st.binary(max_size=40))
        elif change == "delete":
            del content[place : place + draw(st.integers(1, 40))]
        elif change == "append":
            content += draw(st.sampled_from(_image_files()))
        else:
            content[place:place] = content[place : place + 30] * draw(st.integers(1, 20))
    return bytes(content)


def image(content):
    """It is read, or a reason is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "image")
        pathlib.Path(path).write_bytes(content)
        (header_reason,) = check_headers([path])
        shape, reason = (32, 32, 3), None
        try:
            with decoding():
                shape = square(open_image(path, draft_size=64), 32).shape
        except Exception as error:
            reason = why_unreadable(error)
    assert shape == (32, 32, 3)
    for why in (header_reason, reason):
        assert why is None or (why.strip() and why.isprintable())
    assert header_reason is None or reason is not None


# Command lines


def _actions():
    """`{command: its options}`, from the parsers themselves."""
    parser = Parser()
    commands = parser.add_subparsers()
    for module in COMMANDS:
        module.add(commands)
    return {name: command._actions for name, command in commands.choices.items()}


ACTIONS = _actions()
# No command line can hold a null character.
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)
UNDECODABLE = st.binary(max_size=6).map(lambda value: os.fsdecode(value.replace(b"\0", b"")))
VALUES = st.one_of(
    TEXT,
    UNDECODABLE,
    NUMBERS.map(str),
    st.sampled_from(
        [
            *(
                "-1",
                "--",
                "-",
                "",
                "nan",
                "inf",
                "1e999",
                "None",
                "a=b",
                "a=[",
                "a={[]:1}",
                "=",
                "x=",
            ),
            *("a='\\d'", "a=1 if", "a=b'", "a=" + "(" * 300, "a=" + "-" * 9999),
            *("none", "imagenet", "cbam", "MobileNet", "ResNet50", "mnist", "float16", "paper"),
            *("/", ".", "..", "/dev/null", "/dev/zero", "nowhere.keras", "x" * 5000, "a\nb", "%s"),
            *("{}", "@file", "file.npz", "*", "9" * 5000, "a=" + "9" * 5000, "--help"),
        ]
    ),
)


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from(sorted(ACTIONS)))
    line = []
    for action in draw(st.lists(st.sampled_from(ACTIONS[name]), max_size=5)):
        value = VALUES
        if action.choices is not None:
            value = VALUES | st.sampled_from(sorted(action.choices))
        if not action.option_strings:
            line.append(draw(value))
            continue
        option = draw(st.sampled_from(action.option_strings))
        if action.nargs == 0:
            line.append(option)
        elif draw(st.booleans()):
            line.append(f"{option}={draw(value)}")
        else:
            line += [option, draw(value)]
    line += draw(st.lists(VALUES, max_size=2))
    return (
        [name, *line] if draw(st.integers(0, 9)) else [*draw(st.lists(VALUES, max_size=2)), *line]
    )


class _Recorder:
    """A room of the package: any function of it raises DataError, and is recorded."""

    def __init__(self, called):
        self.called = called

    def __getattr__(self, name):
        def record(*arguments, **options):
            self.called.append((name, arguments, options))
            raise DataError("Recorded.")

        return record


@contextlib.contextmanager
def nothing_heavy():
    """Within the block, commands only check what they are given; yields the calls."""
    recorder = _Recorder([])
    with contextlib.ExitStack() as stack:
        for module in COMMANDS:
            for name in ("room", "call_task"):
                if hasattr(module, name):
                    fake = recorder.call_task if name == "call_task" else lambda _: recorder
                    stack.enter_context(mock.patch.object(module, name, fake))
        yield recorder.called


def command_line(line):
    """It ends with a status and at most one line of error."""
    # As Python opens them where the locale is UTF-8.
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    with nothing_heavy(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(line)
        except SystemExit as end:
            status = end.code
    out.flush()
    err.flush()
    error = err.buffer.getvalue().decode()
    assert status in (0, 1, 2)
    assert len(error.splitlines()) <= 1
    assert error.rstrip("\n").isprintable()
    assert bool(error) == (status != 0)


PROPERTIES = {
    "valid layers": (valid_layers(), valid_layer),
    "mutated layer configs": (mutated_configs(), mutated_config),
    "registry": (attentions(), attention),
    "image bytes": (image_bytes(), image),
    "command lines": (command_lines(), command_line),
}
