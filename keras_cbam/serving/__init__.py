"""Writes trained models in the formats of serving: SavedModel, LiteRT and ONNX."""

from typing import TYPE_CHECKING

from keras_cbam._lazy import import_lazily

if TYPE_CHECKING:
    from keras_cbam.serving.export import Export as Export
    from keras_cbam.serving.export import export_model as export_model
    from keras_cbam.serving.saved_model import write_saved_model as write_saved_model

import_lazily(__name__)
