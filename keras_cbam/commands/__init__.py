"""The commands of `keras-cbam`, one a module: `add` its parser, `run` it."""
