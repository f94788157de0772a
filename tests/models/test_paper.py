import pytest

from keras_cbam.models.paper import ATTENTION, NETWORKS, paper_row, paper_table


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_counts_are_the_papers(network):
    for attention in ATTENTION:
        row = paper_row(network, attention)
        assert row.parameters == row.paper_parameters, attention
        assert row.multiply_adds / 1e9 == pytest.approx(row.paper_gflops, rel=0.01), attention
        assert row.is_equal
        assert (row.paper_top_1_error is None) == (attention == "se")


def test_the_table_has_every_row(monkeypatch):
    monkeypatch.setattr("keras_cbam.models.paper.paper_row", lambda *names: names)
    expected = [(network, attention) for network in NETWORKS for attention in ATTENTION]
    assert list(paper_table()) == expected
    assert len(expected) == 30
