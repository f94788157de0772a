import keras
import numpy as np
import pytest

from keras_cbam import CBAM, attention_backbone, attention_classifier, insert_attention
from keras_cbam.weight_files import named_layers

SMALL = {"alpha": 0.25, "input_shape": (32, 32, 3)}


@pytest.fixture(scope="module")
def plain():
    return attention_backbone("MobileNet", attention=None, weights=None, **SMALL)


def save_npz(path, model):
    np.savez(
        path,
        **{
            f"{name}/{i}": array
            for name, layer in named_layers(model).items()
            for i, array in enumerate(layer.get_weights())
        },
    )
    return path


def assert_same_weights(model, expected, but=()):
    layers = named_layers(model)
    for name, layer in named_layers(expected).items():
        if name not in but:
            for ours, theirs in zip(layers[name].get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("suffix", [".npz", ".keras", ".weights.h5"])
def test_plain_weights_into_an_attended_backbone(suffix, plain, tmp_path):
    path = tmp_path / f"plain{suffix}"
    if suffix == ".npz":
        save_npz(path, plain)
    elif suffix == ".keras":
        plain.save(path)
    else:
        plain.save_weights(path)
    attended = attention_backbone("MobileNet", weights=path, **SMALL)
    assert_same_weights(attended, plain)
    assert any(isinstance(layer, CBAM) for layer in attended.layers)


@pytest.mark.parametrize("suffix", [".npz", ".keras", ".weights.h5"])
def test_attended_weights_into_an_attended_backbone(suffix, plain, tmp_path):
    attended = insert_attention(plain, start_as_identity=True)
    for layer in attended.layers:
        if isinstance(layer, CBAM):
            layer.set_weights([weight + 0.5 for weight in layer.get_weights()])
    path = tmp_path / f"attended{suffix}"
    if suffix == ".npz":
        save_npz(path, attended)
    elif suffix == ".keras":
        attended.save(path)
    else:
        attended.save_weights(path)
    assert_same_weights(attention_backbone("MobileNet", weights=path, **SMALL), attended)
    again = attention_backbone("MobileNet", attention=None, weights=path, **SMALL)
    assert_same_weights(again, plain)


def test_attended_classifier_into_another(tmp_path):
    arguments = {"alpha": 0.25, "input_shape": (32, 32, 3)}
    trained = attention_classifier("MobileNet", 3, weights=None, **arguments)
    trained.save(tmp_path / "model.keras")
    other = attention_classifier("MobileNet", 7, weights=tmp_path / "model.keras", **arguments)
    assert_same_weights(other, trained, but=["probabilities"])


def test_what_differs_is_said_and_nothing_is_changed(plain, tmp_path):
    path = save_npz(tmp_path / "plain.npz", plain)
    with pytest.raises(ValueError, match=r"'conv1' has shapes \[\(3, 3, 3, 8\)\] in the file"):
        attention_backbone("MobileNet", weights=path, alpha=0.5, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="'Conv1' is not in the file"):
        attention_backbone("MobileNetV2", weights=path, input_shape=(32, 32, 3))


@pytest.mark.parametrize("name", ["broken.npz", "broken.keras", "broken.weights.h5"])
def test_broken_file(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(ValueError, match=name):
        attention_backbone("MobileNet", weights=tmp_path / name, **SMALL)


def test_pickle_in_an_npz_is_never_run(tmp_path):
    np.savez(tmp_path / "pickle.npz", **{"conv1/0": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match=r"pickle\.npz"):
        attention_backbone("MobileNet", weights=tmp_path / "pickle.npz", **SMALL)


def test_no_lambda_is_loaded(tmp_path):
    inputs = keras.Input((8,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match="Cannot load the Keras model"):
        attention_backbone("MobileNet", weights=tmp_path / "lambda.keras", **SMALL)
