"""The same training with and without attention, for several seeds, and what difference it makes."""

import csv
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_cbam.attention import attention_template
from keras_cbam.errors import TrainingError, library, positive_integer, quoted, require
from keras_cbam.training.arguments import stored
from keras_cbam.training.run_folder import (
    ARGUMENTS,
    REPORT,
    read_json,
    write_json,
    write_whole,
)
from keras_cbam.visualization.run_figures import plot_comparison

# The files of a comparison, and the folder of its runs.
COMPARISON, TABLE, FIGURE, RUNS = "comparison.json", "comparison.csv", "comparison.png", "runs"
CONFIDENCE = 0.95
# Where no difference is seen, the number of seeds is told that would show this one.
SMALL_DIFFERENCE = 0.01


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference that one attention makes for the same seeds, beside the first.

    Attributes:
        attention: string.
        mean: float, the mean over the seeds of the metric less that of the first attention.
        margin: float, half of the mean's 95 % interval by Student's t; `None` for one seed.
        sentence: string, what follows from the interval.
    """

    attention: str
    mean: float
    margin: float | None
    sentence: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        metric: string, the number of the runs' reports that is compared.
        rows: list of dicts, one for each training: `attention`, `seed`, the metric, `parameters`
            (trainable) and `seconds_a_step` (with the first step, which compiles).
        differences: list of `Difference`, one for each attention except the first.
        output: `pathlib.Path` of the folder.
    """

    metric: str
    rows: list[dict[str, Any]]
    differences: list[Difference]
    output: pathlib.Path


def compare_trainings(
    train: Callable[..., Any],
    metric: str,
    attention: Sequence[str] | None = None,
    seeds: int | None = None,
    output: str | os.PathLike | None = None,
    resume: str | os.PathLike | None = None,
    verbose: Any = "auto",
    **arguments: Any,
) -> Comparison:
    """Trains a model for each attention and each seed, and compares a metric of their tests.

    Trainings with the same seed have the same data in the same order, and the same initial weights
    of the backbone. Each is a run in a folder of its own, so that an interrupted comparison is
    resumed where it was, within an epoch too, and no finished training is repeated.

    Args:
        train: function of the arguments, `attention`, `seed` and `output` or `resume`.
        metric: name of a number in the report of a run.
        attention: the names of two or more kinds of attention, as of `insert_attention`, or
            `"none"`. All others are compared with the first.
        seeds: how many: 0, 1 and so on. Defaults to `None`: 3, or as many as there were.
        output: path of the folder to write.
        resume: path of the folder of an earlier comparison, which needs no other argument;
            `seeds` and `attention` may be longer.
        verbose: 0 to print nothing. Defaults to `"auto"`.
        **arguments: of the trainings.

    Raises:
        ValueError: if an argument is outside its range.
        FileExistsError: if there is something in the folder.
        TrainingError: if there is nothing to resume, or a run has no such metric; see also
            `keras_cbam.training.train`.
        ImportError: if SciPy or Matplotlib is not installed; it names the extra.
    """
    # What would otherwise be missing after hours.
    for name in ("matplotlib", "scipy"):
        library(name, "compare")
    message = "`seed` is the random seed of one training: pass `seeds`, how many."
    require("seed" not in arguments, message, f"seed={arguments.get('seed')!r}")
    told = {"metric": metric, "attention": attention, "seeds": seeds, "arguments": arguments}
    output, told = _begin(output, told, resume)
    names, rows = told["attention"], []
    # Seed by seed, so that what an interrupted comparison has are pairs.
    for seed in range(told["seeds"]):
        for name in names:
            folder = output / RUNS / f"{name}_{seed}"
            own = {"attention": name, "seed": seed, **told["arguments"]}
            report = _report(train, folder, metric, verbose, own)
            rows.append(_row(name, seed, report, metric))
            write_whole(output, TABLE, functools.partial(_write_table, rows))
    values = {name: [row[metric] for row in rows if row["attention"] == name] for name in names}
    first, *others = names
    differences = [difference(name, values[name], first, values[first]) for name in others]
    found = {"rows": rows, "differences": [dataclasses.asdict(one) for one in differences]}
    write_json(output, COMPARISON, {**_stored(told), **found})
    figure = plot_comparison(values, metric, differences)
    write_whole(output, FIGURE, lambda path: figure.savefig(path))
    return Comparison(metric, rows, differences, output)


def _begin(output, told, resume):
    """The folder of the comparison, and its arguments with those of an earlier one."""
    if resume is not None:
        output = pathlib.Path(resume).absolute()
        earlier = read_json(output / COMPARISON)
        if earlier.get("metric") != told["metric"]:
            raise TrainingError(f"There is no such comparison to resume in {quoted(output)}.")
        given = stored(told["arguments"])
        changed = {k: v for k, v in given.items() if earlier["arguments"].get(k) != v}
        if changed:
            raise ValueError(
                "A comparison is resumed with the arguments of its trainings, which are "
                f"{earlier['arguments']}. Received: {changed}"
            )
        own = {name: told[name] or earlier[name] for name in ("attention", "seeds")}
        told = {**told, **own, "arguments": earlier["arguments"]}
    else:
        _checked_names(told["attention"])
        require(output is not None, "`output` must be the path of a folder.", "output=None")
        output = pathlib.Path(output).absolute()
        told = {**told, "seeds": 3 if told["seeds"] is None else told["seeds"]}
    told["attention"] = _checked_names(told["attention"])
    positive_integer("seeds", told["seeds"])
    if resume is None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(
            f"The output {quoted(output)} exists. Choose another --output, or pass it as --resume "
            "to continue a comparison."
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(output, COMPARISON, _stored(told))
    return output, told


def _stored(told):
    """What JSON has a form for of the arguments of a comparison."""
    return {**told, "arguments": stored(told["arguments"])}


def _checked_names(attention):
    names = [] if attention is None or isinstance(attention, str) else list(attention)
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(
            "`attention` must be two or more different names; the others are compared with the "
            f"first. Received: attention={attention!r}"
        )
    for name in names:
        if name != "none":
            attention_template(name)
    return names


def _report(train, folder, metric, verbose, arguments):
    """The report of one run, which is trained, or trained on, unless it has ended."""
    if metric not in read_json(folder / REPORT):
        # Before its first epoch a run has no arguments yet.
        is_begun = (folder / ARGUMENTS).exists()
        if verbose:
            print(f"Attention {arguments['attention']}, seed {arguments['seed']}:", flush=True)
        given = {"resume": folder} if is_begun else {"output": folder, **arguments}
        train(**given, verbose=verbose)
    report = read_json(folder / REPORT)
    if metric not in report:
        reason = " ".join(report.get("problems", {}).values()) or "its report has no such number."
        raise TrainingError(f"The run in {quoted(folder)} has no {metric}: {reason}")
    return report


def _row(attention, seed, report, metric):
    given = report["arguments"]
    steps = given["epochs"] * math.ceil(report["data"]["training_images"] / given["batch_size"])
    return {
        "attention": attention,
        "seed": seed,
        metric: report[metric],
        "parameters": report["parameters"]["trainable"],
        "seconds_a_step": report["seconds"]["training"] / steps,
    }


def difference(
    name: str, values: Sequence[float], first: str, first_values: Sequence[float]
) -> Difference:
    """How much better values are than the first, paired by their order, and a sentence on it."""
    differences = np.subtract(values, first_values)
    mean, count = float(differences.mean()), len(differences)
    if count < 2:
        text = f"{name} less {first} is {mean:+.3f} for one seed, which tells nothing of chance."
        return Difference(name, mean, None, text)
    deviation = float(differences.std(ddof=1))
    margin = _margin(deviation, count)
    if abs(mean) > margin:
        kind = "better" if mean > 0 else "worse"
        text = f"{name} is {kind} than {first} by {abs(mean):.3f} ± {margin:.3f} ({count} seeds)."
        return Difference(name, mean, margin, text)
    text = f"No difference between {name} and {first} is seen: {mean:+.3f} ± {margin:.3f} "
    text += f"({count} seeds)."
    needed = next(n for n in range(2, 10**6) if _margin(deviation, n) <= SMALL_DIFFERENCE)
    if needed > count:
        text += f" It would take about {needed} seeds to see {SMALL_DIFFERENCE}."
    return Difference(name, mean, margin, text)


def _margin(deviation, count):
    """Half of the interval of a mean by Student's t."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, count - 1) * deviation / math.sqrt(count))


def _write_table(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
