"""Pure functions on tensors, written in `keras.ops`."""
