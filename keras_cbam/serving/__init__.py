"""Trained classifiers in the formats of serving: SavedModel, LiteRT and ONNX."""
