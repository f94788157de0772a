"""Attention in detectors, on clothing scenes: tables 6 and 7 of the CBAM paper in small.

    python benchmarks/detection.py [--output FILE] [--detectors NAME ...] [--seeds N ...]

SSD and StairNet with nothing, SE or CBAM before every classifier, Faster R-CNN with it in its
backbone's blocks; several seeds; mean and deviation of COCO's average precisions. What is done
stands in the output file, a line of JSON a run, and is not done again.
"""

import argparse
import pathlib
import sys

from resumed import mean_and_deviation, run_missing

from keras_cbam.cost import count_parameters
from keras_cbam.detection import train_detector

DETECTORS = ("ssd", "stairnet", "faster_rcnn")
ATTENTION = ("none", "se", "cbam")
METRICS = ("AP50", "AP75", "AP")
SETTINGS = ("epochs", "batch_size", "learning_rate", "image_size", "train_scenes", "test_scenes")


def run(case, seed, options):
    """The metrics of one detector and seed."""
    done = train_detector(
        detector=case["detector"],
        attention=None if case["attention"] == "none" else case["attention"],
        seed=seed,
        verbose=0,
        **{name: getattr(options, name) for name in SETTINGS},
    )
    return {
        **{name: done.report[name] for name in METRICS},
        "parameters": count_parameters(done.model),
        "seconds": round(done.report["seconds"]["training"]),
    }


def print_table(rows, cases, options):
    print(
        f"\n{options.train_scenes} scenes of {options.image_size} pixels to train on, "
        f"{options.test_scenes} to test on, {options.epochs} epochs, {len(options.seeds)} seeds\n"
        "\n| detector | attention | parameters | AP@.5 | AP@.75 | AP@.5:.95 | seconds |"
        "\n|---|---|---|---|---|---|---|"
    )
    for case in cases:
        own = [row for row in rows if case.items() <= row.items()]
        metrics = [
            "{:.3f} ± {:.3f}".format(*mean_and_deviation([row[name] for row in own]))
            for name in METRICS
        ]
        seconds, _ = mean_and_deviation([row["seconds"] for row in own])
        print(
            f"| {case['detector']} | {case['attention']} | {own[0]['parameters']:,} "
            f"| {' | '.join(metrics)} | {seconds:.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--attention", nargs="+", choices=ATTENTION, default=list(ATTENTION))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--train-scenes", type=int, default=3000)
    parser.add_argument("--test-scenes", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=pathlib.Path, default="detection.jsonl")
    options = parser.parse_args()
    cases = [
        {"detector": detector, "attention": attention}
        for detector in options.detectors
        for attention in options.attention
    ]
    rows = run_missing(options, SETTINGS, cases, lambda case, seed: run(case, seed, options))
    print_table(rows, cases, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
