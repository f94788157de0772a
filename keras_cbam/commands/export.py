"""Writes a saved model in a format of serving.

A classifier becomes a SavedModel, LiteRT or ONNX file that takes pixels in [0, 255] and returns
probabilities, both float32; a detector becomes the same (LiteRT for one image) and returns boxes,
classes, confidences and their number, after suppression. It is loaded by its own runtime in a
fresh process and compared with Keras on images. LiteRT and ONNX need pip install
keras_cbam[litert] or keras_cbam[onnx].
"""

import dataclasses

from keras_cbam.commands import call_task
from keras_cbam.commands.parser import RUN, add_command
from keras_cbam.commands.printing import print_table
from keras_cbam.serving.formats import FORMATS, find_format

_USE = {
    "saved_model": """import tensorflow as tf
  served = tf.saved_model.load({path!r})
  probabilities = served.serve(tf.cast(pixels, tf.float32))""",
    "litert": """from ai_edge_litert.interpreter import Interpreter
  served = Interpreter({path!r}).get_signature_runner("serving_default")
  probabilities = served(pixels=pixels.astype("float32"))["probabilities"]""",
    "onnx": """import onnxruntime
  served = onnxruntime.InferenceSession({path!r})
  (probabilities,) = served.run(["probabilities"], {{"pixels": pixels.astype("float32")}})""",
}

_USE_DETECTOR = {
    "saved_model": """import tensorflow as tf
  served = tf.saved_model.load({path!r})
  found = served.serve(tf.cast(pixels, tf.float32))  # boxes, classes, confidence""",
    "litert": """from ai_edge_litert.interpreter import Interpreter
  served = Interpreter({path!r}).get_signature_runner("serving_default")
  found = served(pixels=pixels[:1].astype("float32"))  # boxes, classes, confidence""",
    "onnx": """import onnxruntime
  served = onnxruntime.InferenceSession({path!r})
  found = served.run(["boxes", "classes", "confidence"], {{"pixels": pixels.astype("float32")}})""",
}


def add(commands):
    summary = "write a saved model in a format of serving"
    add = add_command(commands, "export", run, show, summary, __doc__).add_argument
    add("run_path", metavar="RUN", help=RUN)
    add("--format", required=True, choices=list(FORMATS), help="what to write")
    text = "smaller numbers inside; litert and onnx only (default: %(default)s)"
    add("--quantize", default="none", choices=["none", "float16", "int8"], help=text)
    text = "the file to write, .tflite or .onnx, or the folder of a SavedModel"
    add("--output", required=True, metavar="PATH", help=text)
    text = "images to compare on and to learn int8 from, as for train; needed for a file"
    add("--data", metavar="DATA", help=f"{text} (default: those of the run)")
    add("--overwrite", action="store_true", help="replace an earlier artefact there")


def run(options):
    # The task checks it again, once Keras is imported.
    find_format(options.format, options.quantize, options.output)
    export = call_task(options, "format", "output", "quantize", "data", "overwrite")
    return dataclasses.asdict(export)


def show(options, export):
    compared = f"Compared on {export['images']} test images of {export['data']}:"
    if "differences" in export:
        print(f"{options.output}: {export['format']}, quantization {export['quantize']}")
        print(f"\n{compared}")
        rows = [(f"  {what}", f"{value:.1e}") for what, value in export["differences"].items()]
        print_table(rows)
        print(f"Keras finds {export['detections']} objects in them.")
        _show_calibration(export)
        sizes = (f"{size / 1e6:.2f}" for size in export["size"])
        print_table([("", "Keras", export["format"]), ("size, MB", *sizes)])
        code = _USE_DETECTOR[export["format"]]
    else:
        _show_classifier(options, export, compared)
        code = _USE[export["format"]]
    print("\nUse it:\n  " + code.format(path=options.output))


def _show_classifier(options, export, compared):
    if export["activation"]:
        print(f"The model's scores are not probabilities: a {export['activation']} is added.")
    print(
        f"{options.output}: {export['format']}, quantization {export['quantize']}, pixels "
        f"{export['input_shape']} to probabilities\n\n"
        f"{compared}\n"
        f"  largest difference of probabilities {export['largest_difference']:.2g}\n"
        f"  same likeliest class {export['agreement']:.2%}"
    )
    _show_calibration(export)
    sizes = (f"{size / 1e6:.2f}" for size in export["size"])
    rows = [("", "Keras", export["format"]), ("size, MB", *sizes)]
    if export["accuracy"]:
        rows.append(("top-1 accuracy", *(f"{part:.2%}" for part in export["accuracy"])))
    for batch, pair in export["milliseconds"].items():
        rows.append((f"ms an image, batch {batch}", *(f"{time:.3f}" for time in pair)))
    print_table(rows)


def _show_calibration(export):
    if export["calibration_images"]:
        print(f"int8 is from {export['calibration_images']} training images of {export['data']}.")
    print()
