"""Turns a PyTorch checkpoint into a Keras model.

The checkpoint is of the official code (CBAM, BAM or plain) or of timm (CBAM); no code in it is
run. The model takes pixels in [0, 255] and returns class probabilities. Needs
pip install keras_cbam[torch].
"""

import os

from keras_cbam.commands import room
from keras_cbam.commands.parser import add_command, file_to_write


def add(commands):
    summary = "turn a PyTorch checkpoint into a .keras file"
    add = add_command(commands, "convert", run, show, summary, __doc__).add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a file of torch.save, or a .safetensors file")
    add("--to", required=True, metavar="FILE.keras", help="the file to write")
    text = "side of the images (default: 224, or 32 for a stem of CIFAR's kind)"
    add("--image-size", type=int, metavar="PIXELS", help=text)
    add("--overwrite", action="store_true", help="replace the file if there is one")


def run(options):
    target = file_to_write("--to", options.to, ".keras")
    if target.exists() and not options.overwrite:
        raise ValueError(f"The file {options.to!r} exists already; pass --overwrite to replace it.")
    convert = room("models.checkpoints").model_from_checkpoint
    model = convert(options.checkpoint, image_size=options.image_size)
    # Whole or not at all, so that a failure leaves the file that is replaced.
    scratch = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        model.save(scratch)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return {
        "output": options.to,
        "model": model.name,
        "parameters": room("cost").count_parameters(model),
        "input_shape": model.input_shape[1:],
        "output_shape": model.output_shape[1:],
    }


def show(options, found):
    shape = found["output_shape"]
    features = f"features {shape}, as the file has no classifier"
    outputs = features if len(shape) > 1 else f"{shape[-1]} class probabilities"
    print(
        f"{options.to}: {found['model']}, {found['parameters']:,} parameters, pixels "
        f"{found['input_shape']} to {outputs}\n\n"
        "Use it:\n"
        "  import keras, keras_cbam\n"
        f"  model = keras.models.load_model({options.to!r})"
    )
