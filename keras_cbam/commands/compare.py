"""`keras-cbam compare` and `compare-detectors`: whether attention helps on these images."""

import dataclasses

from keras_cbam.commands import room
from keras_cbam.commands.parser import add_command, add_training_options, training_arguments
from keras_cbam.commands.printing import print_table
from keras_cbam.commands.train import TRAININGS, training_defaults
from keras_cbam.errors import positive_integer, printable

OUTPUT = "keras_cbam_comparison"
ATTENTION = ("none", "se", "cbam")
# What a comparison sets for each of its trainings.
_SET = ("attention", "seed", "output", "overwrite", "resume")


def add(commands):
    _add(commands, "compare", "classification", "classifiers")
    _add(commands, "compare-detectors", "detection", "detectors")


def _add(commands, verb, task, models):
    summary = f"{models} with and without attention"
    description = (
        f"Trains {models} with each kind of attention and each random seed, all else alike, and "
        "tells the difference from the first kind with its 95 % interval. An interrupted "
        "comparison is resumed where it was. `control` is no attention, but as many parameters in "
        "plain 1x1 convolutions at the same places. Needs pip install keras_cbam[compare]."
    )
    parser = add_command(commands, verb, run, show, summary, description)
    parser.set_defaults(task=task)
    group = parser.add_argument_group("comparison")
    text = f"kinds of attention; all are compared with the first (default: {','.join(ATTENTION)})"
    group.add_argument("--attention", metavar="NAME,NAME", help=text)
    group.add_argument("--seeds", type=int, metavar="N", help="random seeds 0 to N-1 (default: 3)")
    text = f"folder of the comparison and of its runs (default: {OUTPUT})"
    group.add_argument("--output", metavar="FOLDER", help=text)
    text = "continue a comparison; needs no other option, --seeds and --attention may be longer"
    group.add_argument("--resume", metavar="FOLDER", help=text)
    add_training_options(parser, TRAININGS[task][0], training_defaults(task), without=_SET)


def run(options):
    arguments = TRAININGS[options.task][0]
    given = training_arguments(options, arguments)
    given = {name: value for name, value in given.items() if name not in _SET}
    if options.seeds is not None:
        positive_integer("seeds", options.seeds)
    attention = options.attention.split(",") if options.attention else None
    if options.resume is None:
        attention = attention or ATTENTION
        # The trainings check them again, once Keras is imported.
        arguments.given(**given)
    given["verbose"] = 0 if options.json or options.quiet else "auto"
    given |= {"seeds": options.seeds, "resume": options.resume}
    given["output"] = None if options.resume else options.output or OUTPUT
    return dataclasses.asdict(room(f"{options.task}.task").compare(attention, **given))


def show(options, found):
    metric, rows = found["metric"], found["rows"]
    names = list(dict.fromkeys(row["attention"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    table = [("attention", "mean", *(f"seed {seed}" for seed in seeds), "parameters", "s a step")]
    for name in names:
        own = [row for row in rows if row["attention"] == name]
        values = [row[metric] for row in own]
        seconds = sum(row["seconds_a_step"] for row in own) / len(own)
        numbers = (sum(values) / len(values), *values)
        last = (f"{own[0]['parameters']:,}", f"{seconds:.3f}")
        table.append((name, *(f"{number:.4f}" for number in numbers), *last))
    print(f"\n{metric} on the test images:")
    print_table(table)
    print()
    print(*(one["sentence"] for one in found["differences"]), sep="\n")
    print(f"\nWritten: {printable(found['output'])}")
