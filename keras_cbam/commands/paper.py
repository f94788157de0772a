"""Builds every network of tables 4 and 5 of the CBAM paper, which takes a minute or two.

Prints the parameters and the multiply-adds that the code counts beside those of the paper, and the
errors on ImageNet-1K that the paper reports.
"""

from keras_cbam.commands import room
from keras_cbam.commands.parser import add_command

_LINE = "{:20} {:6} {:>11} {:>11} {:>10} {:>8} {:>7} {:>7}  {}"


def add(commands):
    summary = "count the paper's networks beside its tables"
    add_command(commands, "paper", run, show, summary, __doc__)


def run(options):
    print(_LINE.format("", "", "parameters", "", "GFLOPs", "", "paper's error, %", "", ""))
    columns = ("network", "with", "counted", "paper", "counted", "paper", "top-1", "top-5", "equal")
    print(_LINE.format(*columns))
    rows, problems = [], {}
    for row in room("models.paper").paper_table():
        rows.append(row)
        errors = (row.paper_top_1_error, row.paper_top_5_error)
        cells = (
            row.network,
            row.attention or "-",
            f"{row.parameters:,}",
            f"{row.paper_parameters:,}",
            f"{row.multiply_adds / 1e9:.3f}",
            f"{row.paper_gflops:.3f}",
            *("" if error is None else f"{error:.2f}" for error in errors),
            "yes" if row.is_equal else "NO",
        )
        # Row by row, as each takes seconds.
        print(_LINE.format(*cells), flush=True)
        if not row.is_equal:
            name = f"{row.network}, {row.attention or 'plain'}"
            problems[name] = "the counts are not those of the paper."
    return {"rows": rows, "problems": problems}


def show(options, found):
    print(
        f"Rows that differ: {len(found['problems'])}. Parameters are trainable ones and exact. "
        "GFLOPs\nare 1e9 multiply-adds for an image of 224 x 224, equal within 1 %, with the "
        "stride of a\nbottleneck in its first 1x1. The errors are quoted from the paper, not "
        "measured here."
    )
