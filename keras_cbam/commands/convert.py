"""`keras-cbam convert`: a PyTorch checkpoint as a Keras model."""

import os
import pathlib

from keras_cbam.commands import room
from keras_cbam.commands.parser import add_command


def add(commands):
    add = add_command(
        commands,
        "convert",
        run,
        show,
        "turn a PyTorch checkpoint into a .keras file",
        "Turns a checkpoint of the official code (CBAM, BAM or plain) or of timm (CBAM) into a "
        "Keras model that takes pixels in [0, 255] and gives class probabilities. No code in the "
        "checkpoint is run. Needs pip install keras_cbam[torch].",
    ).add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a file of torch.save, or a .safetensors file")
    add("--to", required=True, metavar="FILE.keras", help="the file to write")
    add(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the images (default: 224, or 32 for a stem of CIFAR's kind)",
    )
    add("--overwrite", action="store_true", help="replace the file if there is one")


def run(options):
    target = pathlib.Path(options.to)
    if target.suffix != ".keras":
        raise ValueError(f"The name of the file must end in .keras. Received: --to {options.to}")
    if target.exists() and not options.overwrite:
        raise ValueError(f"The file {options.to!r} exists already; pass --overwrite to replace it.")
    if not target.parent.is_dir():
        raise ValueError(f"There is no folder {str(target.parent)!r} for the file to write.")
    model = room("models.checkpoints").model_from_checkpoint(
        options.checkpoint, image_size=options.image_size
    )
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
    outputs = f"{found['output_shape'][-1]} class probabilities"
    if len(found["output_shape"]) > 1:
        outputs = f"features {found['output_shape']}, as the file has no classifier"
    print(
        f"{options.to}: {found['model']}, {found['parameters']:,} parameters, pixels "
        f"{found['input_shape']} to {outputs}\n\n"
        "Use it:\n"
        "  import keras, keras_cbam\n"
        f"  model = keras.models.load_model({options.to!r})"
    )
