"""`keras-cbam export`: a saved model in a format of serving."""

from keras_cbam.classification.export import export_classifier
from keras_cbam.commands.parser import add_command
from keras_cbam.serving.formats import FORMATS

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


def add(commands):
    add = add_command(
        commands,
        "export",
        run,
        "write a saved model in a format of serving",
        "Writes a classifier as a SavedModel, LiteRT or ONNX file that takes pixels in [0, 255] "
        "and gives probabilities, both float32; loads it by its own runtime in a fresh process and "
        "compares it with Keras on pictures. LiteRT and ONNX need pip install keras_cbam[litert] "
        "or keras_cbam[onnx].",
    ).add_argument
    add(
        "model",
        metavar="MODEL",
        help="a .keras file that takes pixels in [0, 255], or the folder of a training run",
    )
    add("--format", required=True, choices=list(FORMATS), help="what to write")
    add(
        "--quantize",
        default="none",
        choices=["none", "float16", "int8"],
        help="smaller numbers inside; litert and onnx only",
    )
    add(
        "--output",
        required=True,
        metavar="PATH",
        help="the file to write, .tflite or .onnx, or the folder of a SavedModel",
    )
    add(
        "--data",
        metavar="DATA",
        help="pictures to compare on and to learn int8 from, as for train: best those that the "
        "model was trained on; by default embedded Fashion-MNIST pictures",
    )
    add("--overwrite", action="store_true", help="replace an earlier artefact there")


def run(options):
    export = export_classifier(
        options.model,
        options.format,
        options.output,
        quantize=options.quantize,
        data=options.data,
        overwrite=options.overwrite,
    )
    if export.activation:
        print(f"The model's scores are no probabilities: a {export.activation} is added.")
    print(
        f"{options.output}: {export.format}, quantization {export.quantize}, pixels "
        f"{export.input_shape} to probabilities\n\n"
        f"Compared on {export.pictures} test pictures of {export.data}:\n"
        f"  largest difference of probabilities {export.largest_difference:.2g}\n"
        f"  same likeliest class {export.agreement:.2%}\n"
    )
    rows = [("size, MB", *(f"{size / 1e6:.2f}" for size in export.size))]
    if export.accuracy:
        rows.append(("top-1 accuracy", *(f"{accuracy:.2%}" for accuracy in export.accuracy)))
    for batch, pair in export.milliseconds.items():
        rows.append((f"ms a picture, batch {batch}", *(f"{time:.3f}" for time in pair)))
    for row in [("", "Keras", export.format), *rows]:
        print(f"{row[0]:24}{row[1]:>12}{row[2]:>12}")
    print("\nUse it:\n  " + _USE[export.format].format(path=options.output))
