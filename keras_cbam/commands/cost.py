"""Counts parameters and multiply-adds of a model, with and without attention."""

from keras_cbam.commands import room
from keras_cbam.commands.parser import add_command
from keras_cbam.commands.printing import print_table


def add(commands):
    summary = "count parameters and multiply-adds with and without attention"
    add = add_command(commands, "cost", run, show, summary, __doc__).add_argument
    add("name", metavar="NAME", help="a model of keras.applications")
    text = "cbam, se, bam, channel, spatial or control (default: %(default)s)"
    add("--attention", default="cbam", metavar="NAME", help=text)
    text = "the layers that get attention (default: those of find_sites)"
    add("--where", default="auto", metavar="REGEX", help=text)
    text = "side of the images (default: that of the ImageNet weights)"
    add("--image-size", type=int, metavar="PIXELS", help=text)
    add("--layers", action="store_true", help="also print the cost of every layer")


def run(options):
    count = room("applications").application_cost
    return count(options.name, options.attention, options.where, image_size=options.image_size)


def show(options, cost):
    plain, ours = cost["plain"], cost["with_attention"]
    print(
        f"{cost['model']}, images of {cost['image_size']} x {cost['image_size']} pixels, "
        f"{options.attention} at {len(cost['sites'])} sites"
    )
    rows = [("", "plain", "with attention", "more")]
    for key in ("parameters", "multiply_adds"):
        more, label = ours[key] / plain[key] - 1, key.replace("_", "-")
        rows.append((label, f"{plain[key]:,}", f"{ours[key]:,}", f"{more:.2%}"))
    print_table(rows)
    if options.layers:
        print()
        rows = [("layer", "output", "parameters", "multiply-adds")]
        for row in ours["layers"]:
            counts = (f"{row.parameters:,}", f"{row.multiply_adds:,}")
            rows.append((row.name, str(row.output_shape), *counts))
        print_table(rows)
