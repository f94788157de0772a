import keras
import numpy as np
import pytest

from keras_cbam import CBAM, attention_backbone, attention_classifier, insert_attention
from keras_cbam.errors import WeightsError
from keras_cbam.files.weight_files import load_named_weights, named_layers

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


def save(path, model):
    """As the file's name says."""
    if path.suffix == ".npz":
        save_npz(path, model)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)


def assert_same_weights(model, expected, but=()):
    layers = named_layers(model)
    for name, layer in named_layers(expected).items():
        if name not in but:
            for ours, theirs in zip(layers[name].get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("suffix", [".npz", ".keras", ".weights.h5"])
def test_plain_weights_into_an_attended_backbone(suffix, plain, tmp_path):
    path = tmp_path / f"plain{suffix}"
    save(path, plain)
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
    save(path, attended)
    assert_same_weights(attention_backbone("MobileNet", weights=path, **SMALL), attended)
    again = attention_backbone("MobileNet", attention=None, weights=path, **SMALL)
    assert_same_weights(again, plain)


def test_h5_of_other_sites_is_refused(plain, tmp_path):
    path = tmp_path / "attended.weights.h5"
    insert_attention(plain, where=["conv_pw_1_relu", "conv_pw_2_relu"]).save_weights(path)
    with pytest.raises(
        ValueError, match=r"has the attention layers \{'cbam': 2\}, .* \{'cbam': 1\}"
    ):
        attention_backbone("MobileNet", weights=path, where=["conv_pw_13_relu"], **SMALL)


def test_h5_with_a_classifier_into_a_backbone(tmp_path):
    path = tmp_path / "classifier.weights.h5"
    whole = keras.applications.MobileNet(weights=None, classes=3, **SMALL)
    whole.save_weights(path)
    assert_same_weights(
        attention_backbone("MobileNet", weights=path, **SMALL), whole, but=["conv_preds"]
    )


@pytest.mark.parametrize(
    "arrays",
    [
        {"conv1/0": np.array(["text"])},
        {"conv1/0": np.array([np.nan])},
        {"conv1/1": np.zeros(3)},
        {"conv1": np.zeros(3)},
    ],
)
def test_arrays_that_are_no_weights(arrays, tmp_path):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(WeightsError, match=r"wrong\.npz"):
        attention_backbone("MobileNet", weights=tmp_path / "wrong.npz", **SMALL)


def test_npy_and_damaged_compression(tmp_path):
    with open(tmp_path / "array.npz", "wb") as file:
        np.save(file, np.zeros(3))
    np.savez_compressed(tmp_path / "damaged.npz", **{"conv1/0": np.arange(10000.0)})
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[200:2000] = b"x" * 1800
    (tmp_path / "damaged.npz").write_bytes(content)
    for name in ("array.npz", "damaged.npz"):
        with pytest.raises(WeightsError, match=name):
            attention_backbone("MobileNet", weights=tmp_path / name, **SMALL)


def test_named_weights_of_an_adapted_normalization(tmp_path):
    def model(data):
        layer = keras.layers.Normalization(name="normalization")
        layer.adapt(data)
        inputs = keras.Input((4,))
        return keras.Model(inputs, layer(inputs))

    data = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    path = save_npz(tmp_path / "weights.npz", model(5 * data + 2))
    other = model(data)
    load_named_weights(other, path, may_lack=lambda layer: False)
    np.testing.assert_allclose(
        np.array(keras.ops.convert_to_numpy(other(5 * data + 2))).std(axis=0), 1, atol=1e-3
    )


@pytest.mark.slow
def test_attended_classifier_into_another(tmp_path):
    arguments = {"alpha": 0.25, "input_shape": (32, 32, 3)}
    trained = attention_classifier("MobileNet", 3, weights=None, **arguments)
    trained.save(tmp_path / "model.keras")
    other = attention_classifier("MobileNet", 7, weights=tmp_path / "model.keras", **arguments)
    assert_same_weights(other, trained, but=["probabilities"])


@pytest.mark.slow
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
