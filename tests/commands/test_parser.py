import argparse
import dataclasses

import pytest

from keras_cbam.classification.arguments import RECIPES, ClassifierArguments
from keras_cbam.cli import main
from keras_cbam.commands.parser import (
    GROUPS,
    NONE,
    Parser,
    add_training_options,
    name_and_value,
    training_arguments,
)
from keras_cbam.detection.arguments import DetectorArguments
from tests.command_line import fails

TASKS = [ClassifierArguments, DetectorArguments]


def parser_of(arguments, defaults=()):
    parser = Parser(prog="x")
    add_training_options(parser, arguments, dict(defaults))
    return parser


def options_of(parser):
    return [
        action
        for group in parser._action_groups
        for action in group._group_actions
        if group.title in GROUPS
    ]


@pytest.mark.parametrize("arguments", TASKS)
def test_each_argument_has_one_option_in_its_group(arguments):
    parser = parser_of(arguments)
    told = {field.name: field.metadata for field in dataclasses.fields(arguments)}
    shown = [name for name in told if told[name]["help"]]
    assert sorted(action.dest for action in options_of(parser)) == sorted(shown)
    assert set(told) - set(shown) == {"verbose"}
    for group in parser._action_groups:
        for action in group._group_actions:
            if group.title in GROUPS:
                assert told[action.dest]["group"] == group.title
                assert told[action.dest]["help"] in action.help
                assert action.default is argparse.SUPPRESS


@pytest.mark.parametrize("arguments", TASKS)
def test_each_option_sets_its_argument(arguments):
    parser = parser_of(arguments)
    for field in dataclasses.fields(arguments):
        told = field.metadata
        if not told["help"]:
            continue
        kind = field.type if field.type in (int, float, bool, dict) else str
        flag = "--" + field.name.replace("_", "-")
        if kind is bool:
            expected, given = True, [flag]
        elif kind is dict:
            expected = {"alpha": 0.5, "name": "x"}
            given = [flag.removesuffix("s"), "alpha=0.5", flag.removesuffix("s"), "name=x"]
        else:
            expected = told["choices"][-1] if "choices" in told else kind(3)
            given = [flag, str(expected)]
        assert training_arguments(parser.parse_args(given), arguments) == {field.name: expected}
    assert training_arguments(parser.parse_args([]), arguments) == {}


@pytest.mark.parametrize("name", NONE)
@pytest.mark.parametrize("arguments", TASKS)
def test_none_is_none(arguments, name):
    options = parser_of(arguments).parse_args([f"--{name}", "none"])
    assert training_arguments(options, arguments) == {name: None}


def test_none_is_the_name_of_an_augmentation():
    options = parser_of(ClassifierArguments).parse_args(["--augment", "none"])
    assert training_arguments(options, ClassifierArguments) == {"augment": "none"}


@dataclasses.dataclass
class Flags:
    mirror: bool = dataclasses.field(
        default=True, metadata={"help": "turn 100% around", "group": "data"}
    )


@pytest.mark.parametrize(("given", "expected"), [("--mirror", True), ("--no-mirror", False)])
def test_a_flag_that_is_true_by_default_can_be_taken_back(given, expected):
    parser = parser_of(Flags)
    assert training_arguments(parser.parse_args([given]), Flags) == {"mirror": expected}
    assert "turn 100% around" in parser.format_help()


def test_the_help_names_the_default_of_each_condition():
    text = parser_of(ClassifierArguments, RECIPES.items()).format_help()
    text = " ".join(text.split())
    for told in (
        "when a run is resumed (default: 8; fine-tuning: 9; paper: 90)",
        "in pixels (default: 32; fine-tuning: 96; paper: 224)",
        "and their augmentation (default: 0)",
        "after every N epochs (paper: 30)",
        "dtype policy of the network (default: float32)",
    ):
        assert told in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha=0.5", ("alpha", 0.5)),
        ("name=x=y", ("name", "x=y")),
        ("shape=(1, 2)", ("shape", (1, 2))),
        ("path=C:\\d", ("path", "C:\\d")),
        ("name=", ("name", "")),
    ],
)
def test_name_and_value(text, expected):
    assert name_and_value(text) == expected


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("train", "--epoch=1"),
        ("detect", "--epoch=1"),
        ("evaluate", "--batch=1"),
        ("predict", "--to=1"),
        ("explain", "--over"),
        ("export", "--over"),
        ("cost", "--layer"),
        ("convert", "--over"),
        ("paper", "--js"),
    ],
)
def test_options_are_not_abbreviated(command, option, capsys):
    required = {
        "export": ["run", "--format=onnx", "--output=x.onnx"],
        "convert": ["x.pth", "--to=x.keras"],
        "predict": ["run", "x.png"],
        "explain": ["run", "x.png"],
        "evaluate": ["run"],
        "cost": ["MobileNet"],
    }.get(command, [])
    message = fails(capsys, 2, *required, option, command=command)
    assert message.endswith(f"unrecognized arguments: {option}")


@pytest.mark.parametrize("command", ["train", "detect"])
def test_options_are_in_groups(command, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"])
    assert exit_info.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    places = [lines.index(f"{title}:") for title in GROUPS]
    assert places == sorted(places)
    assert lines[0] == f"usage: keras-cbam {command} [options]"
    assert "  --json                print JSON on standard output, and nothing else there" in lines
