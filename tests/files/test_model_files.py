import keras
import numpy as np
import pytest

from keras_cbam.errors import ModelError
from keras_cbam.files.model_files import load_keras_file
from keras_cbam.training.saved_run import find_run


class Gone(keras.layers.Layer):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("nested", [False, True])
def test_a_class_that_is_not_known(nested, tmp_path):
    model = keras.Sequential([keras.Input((4,)), Gone()])
    if nested:
        inputs = keras.Input((4,))
        model = keras.Model(inputs, model(inputs))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ModelError) as found:
        find_run(tmp_path / "model.keras").load()
    assert str(found.value).endswith(
        "cannot be loaded: its class 'Gone' is not known: import the package that defines it (for "
        "a detector `keras_cbam.detection`), or give the command the folder of its run."
    )


def test_a_layer_is_not_a_model(tmp_path):
    layer = keras.layers.Dense(2)
    layer(np.ones((1, 3)))
    keras.saving.save_model(layer, tmp_path / "layer.keras")
    with pytest.raises(ValueError, match="it holds a Dense, not a model"):
        load_keras_file(tmp_path / "layer.keras")
