"""The formats of serving: their quantizations, file names and libraries."""

import dataclasses
import importlib.util

# Names of the input, the output and the signature of an artefact.
INPUT, OUTPUT, SIGNATURE = "pixels", "probabilities", "serving_default"


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of serving, a file unless `suffix` is empty; `libraries` write and run it."""

    quantizations: tuple = ("none", "float16", "int8")
    suffix: str = ""
    libraries: tuple = ()


# An extra of this package has the name of the format and installs its libraries.
FORMATS = {
    "saved_model": Format(quantizations=("none",)),
    "litert": Format(suffix=".tflite", libraries=("ai_edge_litert",)),
    "onnx": Format(suffix=".onnx", libraries=("onnx", "onnxruntime", "tf2onnx")),
}


def find_format(name, quantize="none", output=None):
    """The `Format` of that name; ValueError or ImportError if it cannot be written so."""
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
                f"pip install keras_cbam[{name}]"
            )
    return found
