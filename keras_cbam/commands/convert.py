"""`keras-cbam convert`: a PyTorch checkpoint as a Keras model."""

import os
import pathlib
import warnings

from keras_cbam.commands.parser import add_command
from keras_cbam.cost import count_parameters
from keras_cbam.models.checkpoints import CheckpointWarning, model_from_checkpoint


def add(commands):
    add = add_command(
        commands,
        "convert",
        run,
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
        help="side of the pictures; by default 224, or 32 for a stem of CIFAR's kind",
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
    size = options.image_size
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        model = model_from_checkpoint(options.checkpoint, image_size=size)
    for warning in caught:
        if issubclass(warning.category, CheckpointWarning):
            print(f"Note: {warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    # Whole or not at all, so that a failure leaves the file that is replaced.
    scratch = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        model.save(scratch)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    has_classes = len(model.output_shape) == 2
    outputs = f"{model.output_shape[-1]} class probabilities"
    if not has_classes:
        outputs = f"features {model.output_shape[1:]}, as the file has no classifier"
    print(
        f"{options.to}: {model.name}, {count_parameters(model):,} parameters, pixels "
        f"{model.input_shape[1:]} to {outputs}\n\n"
        "Use it:\n"
        "  import keras, keras_cbam\n"
        f"  model = keras.models.load_model({options.to!r})"
    )
