"""`keras-cbam cost`: parameters and multiply-adds with and without attention."""

import dataclasses
import json

from keras_cbam.applications import application_cost
from keras_cbam.commands.parser import add_command


def add(commands):
    add = add_command(
        commands,
        "cost",
        run,
        "count parameters and multiply-adds with and without attention",
        "Counts parameters and multiply-adds of a model of keras.applications, with and without "
        "attention.",
    ).add_argument
    add("name", metavar="NAME", help="a model of keras.applications")
    add("--attention", default="cbam", metavar="NAME", help="cbam, se, bam, channel or spatial")
    add("--where", default="auto", metavar="REGEX", help="the layers to attend")
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures; by default that of the ImageNet weights",
    )
    add("--layers", action="store_true", help="also print the cost of every layer")
    add("--json", action="store_true", help="print JSON, with the cost of every layer")


def run(options):
    cost = application_cost(
        options.name, options.attention, options.where, image_size=options.image_size
    )
    if options.json:
        print(json.dumps(cost, indent=2, default=dataclasses.asdict))
        return
    plain, attended = cost["plain"], cost["attended"]
    print(
        f"{cost['model']}, pictures of {cost['image_size']} x {cost['image_size']} pixels, "
        f"{options.attention} at {len(cost['sites'])} sites"
    )
    print(f"{'':14}{'plain':>16}{'attended':>16}{'more':>9}")
    for label, key in (("parameters", "parameters"), ("multiply-adds", "multiply_adds")):
        more = 100 * (attended[key] / plain[key] - 1)
        print(f"{label:14}{plain[key]:>16,}{attended[key]:>16,}{more:>8.2f}%")
    if options.layers:
        print(f"\n{'layer':44}{'output':>24}{'parameters':>14}{'multiply-adds':>16}")
        for row in attended["layers"]:
            shape = str(row.output_shape)
            print(f"{row.name:44}{shape:>24}{row.parameters:>14,}{row.multiply_adds:>16,}")
