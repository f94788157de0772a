"""The properties of `tests/fuzzing.py` on many inputs: how many were tried, and which failed.

python benchmarks/fuzz.py [--examples 1000] [--only NAME] [--seed 0]
"""

import argparse
import pathlib
import resource
import sys
import time
import traceback
import warnings

import hypothesis

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def fuzz(strategy, check, examples, seed):
    """The number of inputs tried, and the errors."""
    count = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def run(value):
        nonlocal count
        count += 1
        check(value)

    try:
        run()
    except ExceptionGroup as group:
        return count, group.exceptions
    except Exception as error:
        return count, [error]
    return count, []


def main():
    from tests.fuzzing import PROPERTIES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=1000, help="inputs of each property")
    parser.add_argument("--only", choices=PROPERTIES, help="one property")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("error")
    failed = 0
    for name, (strategy, check) in PROPERTIES.items():
        if options.only not in (None, name):
            continue
        start = time.perf_counter()
        count, errors = fuzz(strategy, check, options.examples, options.seed)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name:24}{count:>8} inputs{len(errors):>4} failures{seconds:>8.0f} s"
            f"{peak:>8.0f} MB peak so far",
            flush=True,
        )
        for error in errors:
            traceback.print_exception(error)
        failed += len(errors)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
