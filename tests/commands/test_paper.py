import dataclasses

import pytest

from keras_cbam.cli import main
from keras_cbam.commands import paper
from keras_cbam.models.paper import paper_row


@pytest.mark.parametrize("is_equal", [True, False])
def test_paper(is_equal, capsys, monkeypatch):
    rows = [paper_row("MobileNet (x0.7)", attention) for attention in (None, "cbam")]
    if not is_equal:
        rows[1] = dataclasses.replace(rows[1], parameters=rows[1].parameters + 1)
    monkeypatch.setattr(paper, "paper_table", lambda: rows)
    assert main(["paper"]) == (0 if is_equal else 1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    plain = "MobileNet (x0.7) - 2,298,747 2,298,747 0.283 0.283 34.86 13.69 yes"
    assert lines[2] == plain.split()
    assert lines[3][-1] == ("yes" if is_equal else "NO")
    assert lines[4][:4] == ["Rows", "that", "differ:", "0." if is_equal else "1."]
