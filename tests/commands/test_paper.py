import dataclasses
import json

import pytest

from keras_cbam.cli import main
from keras_cbam.models.paper import paper_row


@pytest.fixture(scope="module")
def rows():
    return [paper_row("MobileNet (x0.7)", attention) for attention in (None, "cbam")]


@pytest.mark.parametrize("is_equal", [True, False])
def test_paper(is_equal, rows, capsys, monkeypatch):
    if not is_equal:
        other = dataclasses.replace(rows[1], parameters=rows[1].parameters + 1)
        rows = [rows[0], other]
    monkeypatch.setattr("keras_cbam.models.paper.paper_table", lambda: rows)
    assert main(["paper"]) == (0 if is_equal else 1)
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    plain = "MobileNet (x0.7) - 2,298,747 2,298,747 0.283 0.283 34.86 13.69 yes"
    assert lines[2] == plain.split()
    assert lines[3][-1] == ("yes" if is_equal else "NO")
    assert lines[4][:4] == ["Rows", "that", "differ:", "0." if is_equal else "1."]
    problem = "MobileNet (x0.7), cbam: the counts are not those of the paper."
    assert printed.err == ("" if is_equal else f"keras-cbam: error: {problem}\n")
    assert main(["paper", "--json"]) == (0 if is_equal else 1)
    told = json.loads(capsys.readouterr().out)
    assert [row["parameters"] for row in told["rows"]] == [row.parameters for row in rows]
