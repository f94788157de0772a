import json
import sys

import keras
import numpy as np
import pytest

from keras_cbam.cli import main

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")

from tests.models import pytorch_networks  # noqa: E402  (needs PyTorch)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for attention in ("bam", "timm"):
        network = pytorch_networks.ResNet(18, attention, num_classes=3, width=0.25, stem="cifar")
        torch.save(pytorch_networks.randomized(network).state_dict(), folder / f"{attention}.pth")
    return folder


def fails(capsys, code, *arguments):
    assert main(["convert", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_convert(checkpoints, capsys, tmp_path):
    target = tmp_path / "bam.keras"
    assert main(["convert", str(checkpoints / "bam.pth"), "--to", str(target)]) == 0
    printed = capsys.readouterr()
    assert "pixels (32, 32, 3) to 3 class probabilities" in printed.out
    assert printed.err == ""
    model = keras.models.load_model(target)
    outputs = model.predict(np.full((2, 32, 32, 3), 100, "uint8"), verbose=0)
    np.testing.assert_allclose(outputs.sum(-1), 1, rtol=0, atol=1e-6)
    assert "exists already" in fails(capsys, 2, checkpoints / "bam.pth", "--to", target)
    arguments = [str(checkpoints / "timm.pth"), "--to", str(target), "--image-size", "40"]
    assert main(["convert", *arguments, "--overwrite", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["input_shape"] == [40, 40, 3]
    assert printed.err.startswith("Note: timm's attention has no biases")
    assert keras.models.load_model(target).input_shape == (None, 40, 40, 3)
    assert main(["convert", *arguments, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_file_without_a_classifier(checkpoints, capsys, tmp_path):
    state = torch.load(checkpoints / "bam.pth")
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "features.pth")
    target = tmp_path / "features.keras"
    assert main(["convert", str(tmp_path / "features.pth"), "--to", str(target)]) == 0
    assert "to features (4, 4, 128), as the file has no classifier" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.keras")] == ["features.keras"]
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_converted(checkpoints, capsys, tmp_path, monkeypatch):
    good, target = checkpoints / "bam.pth", tmp_path / "model.keras"
    assert "must end in .keras" in fails(capsys, 2, good, "--to", tmp_path / "model.h5")
    assert "no folder" in fails(capsys, 2, good, "--to", tmp_path / "none" / "model.keras")
    assert "image_size=0" in fails(capsys, 2, good, "--to", target, "--image-size", 0)
    assert "No such checkpoint" in fails(capsys, 1, tmp_path / "no.pth", "--to", target)
    (tmp_path / "text.pth").write_text("no weights")
    assert "no PyTorch checkpoint" in fails(capsys, 1, tmp_path / "text.pth", "--to", target)
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    assert "no residual network" in fails(capsys, 1, tmp_path / "other.pth", "--to", target)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "keras_cbam[torch]" in fails(capsys, 1, good, "--to", target)
    assert not target.exists()
