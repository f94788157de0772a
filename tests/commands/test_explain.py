import json

import pytest

from keras_cbam.cli import main
from tests.command_line import fails
from tests.data.imagenet_folder import cut_short, save_picture
from tests.visualization.models import classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    classifier(size=(16, 16)).save(folder / "model.keras")
    names = ["cat", "dog", "hen", "cow"]
    (folder / "report.json").write_text(json.dumps({"data": {"class_names": names}}))
    return folder


@pytest.fixture
def photos(tmp_path):
    return [str(save_picture(tmp_path / f"{k}.png", 40 * k)) for k in range(2)]


@pytest.mark.parametrize("is_folder", [True, False])
def test_explain(run, photos, tmp_path, capsys, is_folder):
    cut_short(photos[1])
    output = tmp_path / "out"
    model = run if is_folder else run / "model.keras"
    assert main(["explain", str(model), *photos, f"--output={output}", "--class=1"]) == 0
    text = capsys.readouterr().out
    assert "Skipped 1 unreadable pictures:" in text
    (row,) = (line for line in text.splitlines() if line.startswith(f"{photos[0]}  "))
    assert any(name in row for name in ("cat", "dog", "hen", "cow"))
    for name in ("0_explained.png", "index.html"):
        assert f"  {output / name}\n" in text
        assert (output / name).exists()
    assert not (output / "1_explained.png").exists()
    assert main(["explain", str(model), *photos, f"--output={output}"]) == 2
    assert "exists already. Choose another --output, or pass --overwrite" in capsys.readouterr().err
    arguments = [str(model), photos[0], f"--output={output}", "--overwrite"]
    assert main(["explain", *arguments]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--class=9"], 2, "from 0 to 3"),
        (["--class=cat"], 2, "invalid int value: 'cat'"),
        ([], 1, "None of the pictures can be read"),
    ],
)
def test_errors_are_one_sentence(run, photos, tmp_path, capsys, arguments, code, message):
    chosen = photos if arguments else [str(tmp_path / "nowhere.png")]
    command = [str(run), *chosen, f"--output={tmp_path / 'out'}", *arguments]
    assert message in fails(capsys, code, *command, command="explain")
    assert not (tmp_path / "out").exists()


def test_no_such_model(tmp_path, capsys):
    assert main(["explain", str(tmp_path), "a.png"]) == 1
    assert "There is no such model file as" in capsys.readouterr().err
