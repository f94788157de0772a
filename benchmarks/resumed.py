"""Runs that are done once: their results stand in a file, a line of JSON each."""

import json
import statistics


def run_missing(options, settings, cases, run):
    """The rows of all cases: those of `options.output`, and of `run(case, seed)` for the others.

    Args:
        options: namespace with `output` (path of the file), `seeds`, and the settings.
        settings: names of options of which a row must have the value to count.
        cases: list of dicts, what tells runs apart, except the seed: items of their rows.
        run: function of a case and a seed to a row.

    Returns:
        List of dicts, a row for each case and seed.
    """
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if all(row[name] == getattr(options, name) for name in settings)]
    wanted = []
    for seed in options.seeds:
        for case in cases:
            named = {**case, "seed": seed}
            found = [row for row in rows if named.items() <= row.items()]
            if not found:
                values = {name: getattr(options, name) for name in settings}
                found = [{**named, **values, **run(case, seed)}]
                with open(options.output, "a") as file:
                    file.write(json.dumps(found[0]) + "\n")
                print(json.dumps(found[0]), flush=True)
            wanted.append(found[0])
    return wanted


def mean_and_deviation(values):
    """The mean, and the standard deviation of a sample: 0 of a single value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
