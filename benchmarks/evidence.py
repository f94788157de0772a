"""Does attention help? Trainings with paired random seeds, and what follows from them.

    python benchmarks/evidence.py [--output evidence.csv] [--minutes 360] [--settings NAME ...]
    python benchmarks/evidence.py --page docs/does_attention_help.md --figure docs/evidence.png

The first form trains what is missing: each finished training adds its rows to the CSV file and is
never repeated. The second reads that file alone. It writes the tables, with a sentence for each
difference, between two marks of the page, and a plot. Trainings go seed by seed, so that an
interrupted run has pairs.

In a pair the data, their order and the initial weights of the backbone are the same. Attention
starts as an identity. `control` has the parameters of CBAM's MLP in plain 1x1 convolutions.
"""

import argparse
import collections
import csv
import functools
import itertools
import pathlib
import subprocess
import sys
import time

import keras
import numpy as np
from framed_scenes import scenes

from keras_cbam import attention_backbone, count_parameters, insert_attention
from keras_cbam.classification import train_classifier
from keras_cbam.detection import train_detector
from keras_cbam.models.building import DEVIATION, MEAN, conv, norm
from keras_cbam.models.resnet import residual_block
from keras_cbam.training.comparison import difference
from keras_cbam.visualization.panels import new_figure

DETECTORS = ("ssd", "stairnet", "faster_rcnn")
ATTENTION = ("none", "se", "cbam", "control", "spatial")
# In a network of few channels a sixteenth of them would be one: a fourth, unless the name says so.
NARROW = {name: {"reduction_ratio": 4} for name in ("se", "cbam", "control")}
VARIANTS = {
    "cbam_paper_start": {"reduction_ratio": 4, "start_as_identity": False},
    "cbam_ratio_16": {"reduction_ratio": 16},
}
KINDS = (*ATTENTION, *VARIANTS)
COLUMNS = ("setting", "attention", "seed", "metric", "value", "parameters", "epochs", "seconds")
COLUMNS += ("curve", "commit")
TITLES = {
    "ssd": "SSD that detects garments in scenes",
    "stairnet": "StairNet that detects garments in scenes",
    "faster_rcnn": "Faster R-CNN that detects garments in scenes",
    "pretrained": "MobileNetV2 with ImageNet weights, fine-tuned to name the framed garment",
    "garments": "ResNet14 on the embedded garments, as `keras-cbam train`",
    "framed": "A small network that names the framed garment",
    "clutter": "A small network that names the garment among plain rectangles",
}
MARKS = "<!-- written by benchmarks/evidence.py -->", "<!-- end -->"
CLASSES = 10
BATCH = 32
# Fewer seeds are kept in the file, and tell too little for the page.
LEAST_SEEDS = 3


def garments(attention, seed, options):
    """The embedded garments with the default training of `keras-cbam train`."""
    run = train_classifier(attention=attention, seed=seed, verbose=0)
    epochs = run.report["arguments"]["epochs"]
    return run.model, epochs, {"garments": run.report["accuracy"]}, run.history["val_accuracy"]


def detector(attention, seed, options, name):
    """A detector from random weights on 3,000 scenes of 96 pixels; the metric is AP@.5."""
    given = {"detector": name, "attention": attention, "train_scenes": 3000, "epochs": 8}
    run = train_detector(**given, seed=seed, verbose=0)
    return run.model, given["epochs"], {name: run.report["AP50"]}, []


def scratch(attention, seed, options, is_framed=True):
    """A small residual network on scenes of 64 pixels; the framed ones are also made harder."""
    name, size, epochs = "framed" if is_framed else "clutter", 64, 10
    keras.utils.set_random_seed(seed)
    if attention is not None:
        config = {**NARROW, **VARIANTS}.get(attention, {})
        attention = {"class_name": attention.partition("_")[0], "config": config}
    model = insert(small_network(size), r"layer\d_\d_bn2", attention)
    tests = {name: data(2000, "test", size, is_framed)}
    if is_framed:
        for ground in ("stripes", "checks"):
            tests[f"{name}, unseen {ground}"] = data(2000, "test", size, ground=ground)
        tests[f"{name}, more garments"] = data(2000, "test", size, garments=(6, 8))
    curve, values = fit(model, data(4000, "train", size, is_framed), tests, epochs, 2e-3, seed)
    return model, epochs, values, curve


def pretrained(attention, seed, options):
    """A MobileNetV2 of ImageNet, fine-tuned on framed scenes with its batch norm. in inference."""
    # At 32 k + 1 pixels Keras pads as the network was trained.
    size, epochs = 97, 6
    keras.utils.set_random_seed(seed)
    backbone = attention_backbone(
        "MobileNetV2", attention=None, weights=str(options.weights), input_shape=(size, size, 3)
    )
    backbone = insert(backbone, "auto", attention)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Normalization(mean=MEAN, variance=DEVIATION**2)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    # Its draws do not depend on how many weights the attention drew.
    head = keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed))
    model = keras.Model(inputs, keras.layers.Softmax()(head(x)))
    tests = {"pretrained": data(1000, "test", size)}
    curve, values = fit(model, data(2400, "train", size), tests, epochs, 2e-4, seed)
    return model, epochs, values, curve


# What is trained, and the attention of it unless `--attention` says otherwise.
SETTINGS = {
    "framed": (scratch, KINDS),
    "clutter": (functools.partial(scratch, is_framed=False), ATTENTION),
    "pretrained": (pretrained, ATTENTION),
    **{name: (functools.partial(detector, name=name), ATTENTION) for name in DETECTORS},
    "garments": (garments, ATTENTION),
}


def small_network(size):
    """Three stages of residual blocks with 16, 32 and 64 channels, the last of size / 8."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.ReLU()(norm(conv(x, 16, 3, "conv1", 2), "bn1"))
    for stage, channels in enumerate((16, 32, 64), 1):
        for block in range(2 if stage > 1 else 1):
            strides = 2 if stage > 1 and block == 0 else 1
            convolutions = [(channels, 3, strides, 1), (channels, 3, 1, 1)]
            x = residual_block(x, f"layer{stage}_{block}", convolutions, strides)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(x))


def insert(model, where, attention):
    return model if attention is None else insert_attention(model, attention, where)


@functools.lru_cache(maxsize=8)
def data(count, part, size, is_framed=True, garments=(3, 5), ground="clouds"):
    return scenes(count, part, size, is_framed, garments, ground)


def fit(model, train, tests, epochs, rate, seed):
    """Returns the first test's accuracy after each epoch, and that of all tests at the end.

    The order of the images depends on nothing but the seed.
    """
    images, labels = train
    steps = len(labels) // BATCH
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 100, (epochs - 1) * steps, warmup_target=rate, warmup_steps=steps
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)

    def accuracy(images, labels):
        return float(np.mean(model.predict(images, 250, verbose=0).argmax(axis=1) == labels))

    curve = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(labels))[: steps * BATCH]
        model.fit(images[order], labels[order], BATCH, epochs=1, shuffle=False, verbose=0)
        curve.append(accuracy(*next(iter(tests.values()))))
    return curve, {name: accuracy(*test) for name, test in tests.items()}


def read(path):
    """The rows of a CSV file in the order of the page."""
    if not path.exists():
        return []

    def place(row):
        name, *test = row["setting"].split(",")
        return list(TITLES).index(name), test, KINDS.index(row["attention"]), int(row["seed"])

    with open(path, newline="") as file:
        return sorted(csv.DictReader(file), key=place)


def shown(rows):
    """Those of kinds of attention that were trained with enough seeds."""
    counts = collections.Counter((row["setting"], row["attention"]) for row in rows)
    return [row for row in rows if counts[row["setting"], row["attention"]] >= LEAST_SEEDS]


def train(options):
    """Trains what the CSV file lacks, and adds it there, until the time is over."""
    start = time.monotonic()
    folder = pathlib.Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()
    for seed, setting in itertools.product(options.seeds, options.settings):
        function, attention = SETTINGS[setting]
        if function is pretrained and not (options.weights and options.weights.exists()):
            print(f"Skipped {setting}: --weights names no file of ImageNet weights.", flush=True)
            continue
        for name in options.attention or attention:
            own = [row for row in read(options.output) if row["setting"] == setting]
            if (name, str(seed)) in {(row["attention"], row["seed"]) for row in own}:
                continue
            longest = max((float(row["seconds"]) for row in own), default=0)
            if time.monotonic() - start + longest > 60 * options.minutes:
                print("Stopped: the next training does not fit in --minutes.", flush=True)
                return
            began = time.monotonic()
            keras.backend.clear_session()
            found = function(None if name == "none" else name, seed, options)
            add(options.output, name, seed, found, time.monotonic() - began, commit)


def add(path, attention, seed, found, seconds, commit):
    """Adds a row for each test of a training to the CSV file, all of them at once."""
    model, epochs, values, curve = found
    rows = [
        {
            "setting": setting,
            "attention": attention,
            "seed": seed,
            "metric": "AP50" if setting in DETECTORS else "accuracy",
            "value": round(float(value), 4),
            "parameters": count_parameters(model),
            "epochs": epochs,
            "seconds": round(seconds),
            "curve": " ".join(f"{one:.3f}" for one in curve),
            "commit": commit,
        }
        for setting, value in values.items()
    ]
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)
    print(*(f"{row['setting']}: {row['value']}" for row in rows), attention, seed, flush=True)


def paired(rows, name, first):
    """The `Difference` of two kinds of attention over the seeds that both have, or `None`."""
    values = [
        {row["seed"]: float(row["value"]) for row in rows if row["attention"] == one}
        for one in (name, first)
    ]
    seeds = [seed for seed in values[0] if seed in values[1]]
    if name == first or not seeds:
        return None
    given = [[own[seed] for seed in seeds] for own in values]
    return difference(name, given[0], first, given[1])


def page(rows):
    """Markdown: for each setting a table, and the sentences that follow from the intervals."""
    lines = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        own = [row for row in rows if row["setting"] == setting]
        lines += [
            f"### {title(setting)}",
            "",
            f"| attention | parameters | {own[0]['metric']}, mean |",
        ]
        lines[-1] += " each seed | less none | less control |"
        lines.append("|---" * 6 + "|")
        sentences, curves = [], []
        for name in dict.fromkeys(row["attention"] for row in own):
            mine = [row for row in own if row["attention"] == name]
            values = [float(row["value"]) for row in mine]
            cells = [name, f"{int(mine[0]['parameters']):,}", f"{np.mean(values):.3f}"]
            cells.append(", ".join(f"{one:.3f}" for one in values))
            for first in ("none", "control"):
                found = None if name == "none" else paired(own, name, first)
                margin = "" if found is None or found.margin is None else f" ± {found.margin:.3f}"
                cells.append("" if found is None else f"{found.mean:+.3f}{margin}")
                if found is not None and (first == "none" or name == "cbam"):
                    sentences.append(f"- {found.sentence}")
            lines.append(f"| {' | '.join(cells)} |")
            # Other test images of a training have its curve too.
            if mine[0]["curve"] and setting in TITLES:
                curve = np.mean([[float(one) for one in row["curve"].split()] for row in mine], 0)
                curves.append(f"{name} {' '.join(f'{one:.3f}' for one in curve)}")
        lines += ["", *sentences, ""]
        if curves:
            lines += [f"After each epoch, mean of the seeds: {'; '.join(curves)}.", ""]
    return "\n".join(lines)


def title(setting):
    """What is trained; a setting may say more of its tests after a comma."""
    name, _, test = setting.partition(",")
    return TITLES[name] + (f", test images with{test}" if test else "")


def write_page(rows, path):
    """Replaces what is between the two marks of a page."""
    start, end = MARKS
    before, _, rest = path.read_text().partition(start)
    _, mark, after = rest.partition(end)
    if not mark:
        raise SystemExit(f"{path} has no line {start!r} with {end!r} after it.")
    path.write_text(f"{before}{start}\n\n{page(rows)}\n{end}{after}")


def draw(rows):
    """A dot for each difference from no attention, with its 95 % interval, by settings."""
    panels = {}
    for setting in TITLES:
        own = [row for row in rows if row["setting"] == setting]
        names = [name for name in KINDS if paired(own, name, "none")]
        if names:
            panels[setting] = own, names
    heights = [1 + len(names) for _, names in panels.values()]
    figure = new_figure(7, 0.8 + 0.28 * sum(heights))
    grid = {"squeeze": False, "sharex": True, "height_ratios": heights}
    axes = figure.subplots(len(panels), **grid)[:, 0]
    for axis, (setting, (own, names)) in zip(axes, panels.items(), strict=True):
        for place, name in enumerate(names):
            found = paired(own, name, "none")
            axis.errorbar(found.mean, place, xerr=found.margin, fmt="o", capsize=4, color="#0072B2")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(f"{title(setting)} ({own[0]['metric']})", fontsize=9, loc="left")
    axes[-1].set_xlabel("difference from no attention: mean over the seeds and 95 % interval")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = pathlib.Path(__file__).parent
    parser.add_argument("--output", type=pathlib.Path, default=folder / "evidence.csv")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--attention", nargs="+", choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--minutes", type=float, default=360, help="no training ends later")
    text = "ImageNet weights of MobileNetV2, for the setting `pretrained`"
    parser.add_argument("--weights", type=pathlib.Path, metavar="FILE.npz", help=text)
    text = "write the tables of the CSV file between the marks of a page, train nothing"
    parser.add_argument("--page", type=pathlib.Path, metavar="FILE.md", help=text)
    parser.add_argument("--figure", type=pathlib.Path, metavar="FILE.png", help="with --page")
    options = parser.parse_args()
    if options.page is None:
        train(options)
        return 0
    rows = shown(read(options.output))
    write_page(rows, options.page)
    if options.figure:
        draw(rows).savefig(options.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
