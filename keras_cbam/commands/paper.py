"""`keras-cbam paper`: tables 4 and 5 of the paper beside what the code counts."""

from keras_cbam.commands.parser import add_command
from keras_cbam.models.paper import paper_table

_LINE = "{:20} {:6} {:>11} {:>11} {:>10} {:>8} {:>7} {:>7}  {}"


def add(commands):
    add_command(
        commands,
        "paper",
        run,
        "count the paper's networks beside its tables",
        "Builds every network of tables 4 and 5 of the CBAM paper, and prints the parameters and "
        "the multiply-adds that the code counts beside the paper's, with the errors on ImageNet-1K "
        "that the paper reports. Takes a minute or two.",
    )


def run(options):
    print(_LINE.format("", "", "parameters", "", "GFLOPs", "", "paper's error, %", "", ""))
    print(
        _LINE.format(
            "network", "with", "counted", "paper", "counted", "paper", "top-1", "top-5", "equal"
        )
    )
    different = 0
    for row in paper_table():
        errors = (row.paper_top_1_error, row.paper_top_5_error)
        print(
            _LINE.format(
                row.network,
                row.attention or "-",
                f"{row.parameters:,}",
                f"{row.paper_parameters:,}",
                f"{row.multiply_adds / 1e9:.3f}",
                f"{row.paper_gflops:.3f}",
                *("" if error is None else f"{error:.2f}" for error in errors),
                "yes" if row.is_equal else "NO",
            ),
            flush=True,
        )
        different += not row.is_equal
    print(
        f"Rows that differ: {different}. Parameters are trainable ones and exact. GFLOPs\n"
        "are 1e9 multiply-adds for a picture of 224 x 224, equal within 1 %, with the stride of a\n"
        "bottleneck in its first 1x1. The errors are quoted from the paper, not measured here."
    )
    return 1 if different else 0
