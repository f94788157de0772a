import json

import pytest

from keras_cbam.cli import main
from tests.command_line import fails


def test_cost(capsys):
    assert main(["cost", "MobileNet", "--image-size=64", "--where=conv_pw_13_relu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MobileNet, images of 64 x 64 pixels, cbam at 1 sites"
    plain, attention = 4231976, 2 * 1024 * 64 + 64 + 1024 + 98 + 2
    counts = [f"{plain:,}", f"{plain + attention:,}", "3.13%"]
    assert lines[2].split() == ["parameters", *counts]
    assert lines[3].split()[0] == "multiply-adds"
    assert len(lines) == 4


def test_cost_of_layers_and_as_json(capsys):
    arguments = ["cost", "MobileNet", "--image-size=32", "--where=conv_pw_13_relu"]
    assert main([*arguments, "--layers"]) == 0
    text = capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["sites"] == ["conv_pw_13_relu"]
    lines = [line.split() for line in text.splitlines()]
    for row in cost["with_attention"]["layers"]:
        # Keras numbers the names of unnamed layers anew in each model.
        if row["name"].startswith("conv"):
            shape = str(tuple(row["output_shape"])).split()
            counts = [f"{row[key]:,}" for key in ("parameters", "multiply_adds")]
            assert [row["name"], *shape, *counts] in lines
    total = sum(row["parameters"] for row in cost["with_attention"]["layers"])
    assert total == cost["with_attention"]["parameters"]
    assert f"{total:,}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MobileNetV9"], "Did you mean"),
        (["MobileNet", "--attention=cbma"], "Did you mean 'cbam'"),
        (["MobileNet", "--where=nowhere"], "matches 'nowhere'"),
        (["MobileNet", "--image-size=0"], "Received: image_size=0"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    assert message in fails(capsys, 2, *arguments, command="cost")
