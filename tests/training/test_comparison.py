import csv
import json

import numpy as np
import pytest

from keras_cbam.errors import TrainingError
from keras_cbam.training.comparison import compare_trainings, difference

scipy_stats = pytest.importorskip("scipy.stats", reason="needs keras_cbam[compare]")
VALUES = {"none": [0.85, 0.83, 0.86], "se": [0.84, 0.85, 0.86], "cbam": [0.88, 0.87, 0.89]}


class Trainings:
    """A function that trains nothing, and writes what a run does; it may be interrupted."""

    def __init__(self, interrupted_at=None):
        self.given = []
        self.interrupted_at = interrupted_at

    def __call__(self, output=None, resume=None, **given):
        folder = output or resume
        self.given.append({"output": output, "resume": resume, **given})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "arguments.json").write_text("{}")
        if len(self.given) - 1 == self.interrupted_at:
            raise KeyboardInterrupt
        attention, seed = folder.name.rsplit("_", 1)
        report = {
            "accuracy": VALUES[attention][int(seed)],
            "parameters": {"trainable": 10},
            "seconds": {"training": 6.0},
            "data": {"training_images": 25},
            "arguments": {"epochs": 2, "batch_size": 10},
        }
        (folder / "report.json").write_text(json.dumps(report))


def compare(train, folder, **given):
    given = {"attention": list(VALUES), "seeds": 3, "output": folder, "epochs": 2, **given}
    return compare_trainings(train, "accuracy", **given)


def rows_of(folder):
    with open(folder / "comparison.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_interval_is_that_of_a_paired_t_test(tmp_path):
    found = compare(Trainings(), tmp_path / "out", verbose=0)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 9
    assert rows[0]["seconds_a_step"] == "1.0"
    by_name = {
        name: [float(r["accuracy"]) for r in rows if r["attention"] == name] for name in VALUES
    }
    assert by_name == VALUES
    for one in found.differences:
        test = scipy_stats.ttest_rel(by_name[one.attention], by_name["none"])
        interval = test.confidence_interval(0.95)
        np.testing.assert_allclose(
            [one.mean - one.margin, one.mean + one.margin], interval, rtol=1e-6
        )
    assert found.differences[1].sentence == "cbam is better than none by 0.033 ± 0.014 (3 seeds)."
    assert "No difference between se and none is seen" in found.differences[0].sentence
    for name in ("comparison.png", "comparison.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0


def test_the_number_of_seeds_that_are_needed():
    one = difference("cbam", [0.1, 0.3, 0.2], "none", [0.2, 0.2, 0.2])
    needed = int(one.sentence.split("about ")[1].split(" seeds")[0])
    for seeds, is_seen in ((needed, True), (needed - 1, False)):
        margin = scipy_stats.t.ppf(0.975, seeds - 1) * 0.1 / seeds**0.5
        assert (margin <= 0.01) == is_seen
    assert "one seed, which tells nothing" in difference("cbam", [0.3], "none", [0.2]).sentence
    none_seen = difference("se", [0.1, 0.2], "none", [0.1, 0.2001]).sentence
    assert none_seen == "No difference between se and none is seen: -0.000 ± 0.001 (2 seeds)."
    worse = difference("se", [0.1, 0.2, 0.1], "none", [0.2, 0.301, 0.2])
    assert worse.sentence.startswith("se is worse than none by 0.100")


def test_an_interrupted_comparison_repeats_no_finished_training(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        compare(Trainings(interrupted_at=4), folder)
    assert len(rows_of(folder)) == 4
    train = Trainings()
    found = compare_trainings(train, "accuracy", resume=folder)
    assert len(train.given) == 5
    # The one that was interrupted goes on in its folder; it knows its own arguments.
    assert train.given[0] == {
        **{"output": None, "resume": folder / "runs" / "se_1", "verbose": "auto"}
    }
    assert train.given[1] == {
        **{"output": folder / "runs" / "cbam_1", "resume": None, "verbose": "auto"},
        **{"attention": "cbam", "seed": 1, "epochs": 2},
    }
    whole = compare(Trainings(), tmp_path / "whole")
    assert (found.rows, found.differences) == (whole.rows, whole.differences)
    assert compare_trainings(train, "accuracy", resume=folder) == found
    assert len(train.given) == 5


def test_paths_among_the_arguments(tmp_path):
    folder, data = tmp_path / "out", tmp_path / "images"
    train = Trainings()
    compare(train, folder, seeds=1, data=data)
    assert train.given[0]["data"] == data
    train = Trainings()
    compare_trainings(train, "accuracy", resume=folder, seeds=2, data=data)
    assert train.given[0]["data"] == str(data)
    names = {path.name for path in folder.iterdir()}
    assert names == {"comparison.csv", "comparison.json", "comparison.png", "runs"}


def test_more_seeds(tmp_path):
    folder = tmp_path / "out"
    compare(Trainings(), folder, attention=["none", "cbam"], seeds=1)
    train = Trainings()
    found = compare_trainings(
        train, "accuracy", resume=folder, seeds=2, attention=["none", "cbam", "se"]
    )
    assert [row["attention"] for row in found.rows] == ["none", "cbam", "se"] * 2
    assert len(train.given) == 4


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"attention": ["cbam"]}, "two or more different names"),
        ({"attention": ["cbam", "cbam"]}, "two or more different names"),
        ({"attention": "cbam"}, "two or more different names"),
        ({"attention": ["none", "cbma"]}, "Did you mean 'cbam'"),
        ({"seeds": 0}, "`seeds` must be a positive integer"),
        ({"output": None}, "`output` must be the path"),
        ({"attention": ["none"], "output": None}, "two or more different names"),
        ({"seed": 3}, "pass `seeds`, how many. Received: seed=3"),
    ],
)
def test_bad_arguments(given, sentence, tmp_path):
    train = Trainings()
    with pytest.raises(ValueError, match=sentence):
        compare(train, **{"folder": tmp_path / "out", **given})
    assert not train.given
    assert not (tmp_path / "out").exists()


def test_folders(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(TrainingError, match="no such comparison to resume"):
        compare_trainings(Trainings(), "accuracy", resume=folder)
    compare(Trainings(), folder, seeds=1)
    with pytest.raises(FileExistsError, match="exists"):
        compare(Trainings(), folder)
    with pytest.raises(ValueError, match="resumed with the arguments of its trainings"):
        compare_trainings(Trainings(), "accuracy", resume=folder, epochs=3)
    with pytest.raises(TrainingError, match="no such comparison"):
        compare_trainings(Trainings(), "AP50", resume=folder)


def test_a_run_without_the_number(tmp_path):
    with pytest.raises(TrainingError, match="has no recall: its report has no such number"):
        compare_trainings(Trainings(), "recall", list(VALUES), 1, tmp_path / "out")
