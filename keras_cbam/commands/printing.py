"""What the commands print for people."""

import dataclasses
import os

from keras_cbam.errors import printable

# Lines of what was skipped.
MOST_SKIPPED = 10
# Classes of a classifier that are printed: report.json has all.
MOST_CLASSES = 20
# Least confidence of the detections that are printed: `--csv` and `--json` have all.
CONFIDENCE = 0.5
COCO = (
    ("AP", "AP50", "AP75", "VOC07", "VOC10"),
    ("APs", "APm", "APl"),
    ("ARmax1", "ARmax10", "ARmax100"),
    ("ARs", "ARm", "ARl"),
)


def error_line(message):
    """One sentence for standard error, whatever the message of an error has in it."""
    return f"keras-cbam: error: {printable(' '.join(str(message).split()))}\n"


def json_form(value):
    """For `json.dumps`: a value that JSON has no form for."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else os.fspath(value)


def print_table(rows):
    """Rows of texts: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *others in rows:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:])]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def print_skipped(skipped):
    if skipped:
        print(f"Skipped {len(skipped)} files or images:")
        print(*(f"  {printable(line)}" for line in skipped[:MOST_SKIPPED]), sep="\n")
        if len(skipped) > MOST_SKIPPED:
            print(f"  and {len(skipped) - MOST_SKIPPED} more")


def print_predictions(found):
    """What `predict_run` or `explain_run` found, one line for each image."""
    images, threshold = found["images"], found.get("threshold", CONFIDENCE)
    rows = [("image", "classes and probabilities")]
    if "detections" in images[0]:
        rows = [("image", f"found with a confidence of {threshold:g} or more")]
    for one in images:
        seen = [each for each in one.get("detections", ()) if each["confidence"] >= threshold]
        texts = [f"{each['class']} {each['confidence']:.2f}" for each in seen]
        for each in one.get("predictions", ()):
            texts.append(f"{each['class']} {each['probability']:.3f}")
        rows.append((printable(one["image"]), printable(", ".join(texts) or "nothing")))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:{width}}  {text}")


def print_metrics(found):
    """The metrics of a report, or of what `evaluate_run` found."""
    if "AP" in found:
        for row in COCO:
            print("  ".join(f"{name:>8} {_number(found[name])}" for name in row))
        table, names = found["per_class"], ("AP", "AP50", "VOC07", "VOC10")
    elif "accuracy" in found:
        texts = [f"accuracy {found['accuracy']:.4f}", f"top-1 error {found['top_1_error']:.2f} %"]
        if found["top_5_error"] is not None:
            texts.append(f"top-5 error {found['top_5_error']:.2f} %")
        print(", ".join(texts))
        recalls, names = found["per_class_recall"], ("recall",)
        table = {name: {"recall": recall} for name, recall in recalls.items()}
        if len(table) > MOST_CLASSES:
            return
    else:
        return
    print()
    rows = [(printable(name), *(_number(own[key]) for key in names)) for name, own in table.items()]
    print_table([("class", *names), *rows])


def _number(value):
    """A metric; -1 and `None` stand for what nothing was there for."""
    return "-" if value is None or value < 0 else f"{value:.3f}"
