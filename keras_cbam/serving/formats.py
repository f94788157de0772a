"""The formats of serving: their quantizations, file names and libraries."""

import dataclasses
import importlib.util

# Names of the input and the output of an artefact.
INPUT, OUTPUT = "pixels", "probabilities"
SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of serving.

    Attributes:
        quantizations: tuple of strings, of which the first is the default.
        suffix: string, the end of a file's name; `""` for a folder.
        libraries: tuple of strings, the modules that write and run it, beside TensorFlow.
        extra: string, the extra of this package that installs them.
    """

    quantizations: tuple
    suffix: str = ""
    libraries: tuple = ()
    extra: str = ""


FORMATS = {
    "saved_model": Format(("none",)),
    "litert": Format(("none", "float16", "int8"), ".tflite", ("ai_edge_litert",), "litert"),
    "onnx": Format(
        ("none", "float16", "int8"), ".onnx", ("onnx", "onnxruntime", "tf2onnx"), "onnx"
    ),
}


def find_format(name, quantize="none", output=None):
    """The `Format` of that name.

    Args:
        name: string.
        quantize: string. Defaults to `"none"`.
        output: path of the artefact, if its name is to be checked. Defaults to `None`.

    Returns:
        A `Format`.

    Raises:
        ValueError: if there is no such format, it has no such quantization, or `output` ends
            otherwise.
        ImportError: if a library that it needs is not installed.
    """
    if name not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}. Received: format={name!r}")
    found = FORMATS[name]
    if quantize not in found.quantizations:
        raise ValueError(
            f"`quantize` must be one of {', '.join(found.quantizations)} for the format {name}. "
            f"Received: quantize={quantize!r}"
        )
    if output is not None and not str(output).endswith(found.suffix):
        raise ValueError(
            f"The name of the file must end in {found.suffix}. Received: output={str(output)!r}"
        )
    for library in found.libraries:
        if importlib.util.find_spec(library) is None:
            raise ImportError(
                f"The format {name} needs {library}, which is not installed: "
                f"pip install keras_cbam[{found.extra}]"
            )
    return found
