import keras
import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM, attention_classifier
from keras_cbam.visualization import attention_maps, grad_cam
from keras_cbam.visualization.class_maps import class_activation
from tests.checks import BACKEND
from tests.visualization.models import (
    KINDS,
    chained,
    classifier,
    nested,
    pretrained,
    random_images,
    subclassed,
)

ENDS = ("softmax", None, "layer", "activation", "operation")


def reference(model, images, classes, layer="gate_2", size=None):
    """Grad-CAM of plain TensorFlow, of a Functional model that ends in the Dense layer "scores"."""
    import tensorflow as tf

    target, end = model.get_layer(layer), model.get_layer("scores")
    features_and_end = keras.Model(model.input, [target.output, end.input])
    head = keras.Model(target.output, end.input)
    features, _ = features_and_end(images.astype("float32"))
    features = tf.cast(features, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = head(features) @ end.kernel + end.bias
        chosen = tf.gather(logits, classes, axis=1, batch_dims=1)
    gradient = tape.gradient(chosen, features)
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
    maps = tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))
    size = size or images.shape[1:3]
    return tf.image.resize(maps[..., None], size, antialias=True)[..., 0].numpy()


on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="the reference is TensorFlow's")


@on_tensorflow
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("classes", [None, 2, [3, 0, 1]])
def test_equals_plain_tensorflow(end, classes):
    model, images = classifier(end), random_images(3)
    predicted = np.argmax(model(images.astype("float32")), axis=1)
    chosen = predicted if classes is None else np.broadcast_to(classes, 3)
    # gate_2 has 3 x 4 positions: it is passed over.
    expected = reference(model, images, chosen, "gate_1")
    maps = grad_cam(model, images, classes)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert maps.max() > 0.5


@on_tensorflow
def test_another_layer_and_another_size():
    model, images = classifier(), random_images(2, (30, 41))
    small = ops.convert_to_numpy(
        ops.image.resize(images.astype("float32"), (12, 10), antialias=True)
    )
    expected = reference(model, small, [1, 1], layer="first", size=(30, 41))
    for layer in ("first", model.get_layer("first")):
        np.testing.assert_allclose(grad_cam(model, images, 1, layer), expected, atol=1e-5)


def known_logits(end):
    """A model whose logit k is the mean of the features' channel k, and the features' weights."""
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(3, 1, use_bias=False, name="features")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation=end, name="scores")(x))
    model.get_layer("features").set_weights([np.eye(3)[None, None]])
    model.get_layer("scores").set_weights([np.eye(3), np.zeros(3)])
    return model


@pytest.mark.parametrize("end", [None, "softmax", "sigmoid"])
def test_a_map_known_in_advance(end):
    # dy[k] / dA[k] is the same everywhere, so the map is the positive part of channel k.
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    expected = np.maximum(images[..., 1], 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(known_logits(end), images, 1), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "subclassed"])
def test_models_of_every_kind(kind):
    inner, images = classifier(), random_images()
    expected = grad_cam(inner, images)
    model = subclassed(inner) if kind == "subclassed" else KINDS[kind](inner)
    np.testing.assert_allclose(grad_cam(model, images), expected, atol=1e-5)
    np.testing.assert_allclose(grad_cam(model, images, layer="gate_1"), expected, atol=1e-5)


def test_paths_of_nested_layers():
    inner = classifier()
    inner.name = "inner"
    expected = grad_cam(inner, random_images(), layer="first")
    maps = grad_cam(nested(inner), random_images(), layer="inner/first")
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_an_end_inside_of_a_composite_layer_and_a_model_that_was_never_called():
    model, images = classifier(), random_images()
    expected = grad_cam(model, images)
    head = chained(keras.layers.Layer, model.layers[-2:])
    composite = keras.Model(model.input, head(model.get_layer("gate_2").output))
    np.testing.assert_allclose(grad_cam(composite, images), expected, atol=1e-5)

    class Fresh(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(4, 3)
            self.head = keras.layers.Dense(3)

        def call(self, inputs):
            return self.head(keras.ops.mean(self.convolution(inputs), (1, 2)))

    assert grad_cam(Fresh(), list(images)).shape == (2, 12, 10)


def test_a_softmax_that_cannot_be_left_out():
    known, images = known_logits(None), np.random.default_rng(0).normal(size=(2, 6, 6, 3))

    class Squashed(keras.Model):
        def __init__(self):
            super().__init__()
            self.known = known

        def call(self, inputs):
            return keras.ops.softmax(self.known(inputs))

    model = Squashed()
    activation = class_activation(model, images)
    expected = keras.ops.convert_to_numpy(model(images.astype("float32")))
    np.testing.assert_allclose(activation.probabilities, expected, atol=1e-5)
    # d log p[k] / d z = (k == j) - p[j]
    change = np.eye(3)[activation.classes] - expected
    maps = np.maximum((change[:, None, None] * images).sum(-1), 0)
    maps /= maps.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(activation.maps, maps, atol=1e-4)


def test_two_labels_of_a_sigmoid():
    model, images = classifier("sigmoid", classes=2), random_images(3)
    probabilities = class_activation(model, images).probabilities
    np.testing.assert_allclose(probabilities, model.predict(images, verbose=0), atol=1e-5)


def test_layers_of_attention_over_tokens_are_no_feature_maps():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="features")(inputs)
    x = keras.layers.Reshape((64, 8))(x)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x))
    model, images = keras.Model(inputs, x), random_images(2, (8, 8))
    expected = grad_cam(model, images, layer="features")
    np.testing.assert_array_equal(grad_cam(model, images), expected)


def test_the_losses_of_the_model_stay_numbers():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activity_regularizer="l2")(inputs)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    grad_cam(model, random_images(2, (8, 8)))
    assert all(np.isfinite(ops.convert_to_numpy(loss)) for loss in model.losses)


def test_a_nested_model_as_the_layer():
    inner = classifier(end=None)
    backbone = keras.Model(inner.input, inner.get_layer("gate_2").output, name="backbone")
    inputs = keras.Input(inner.input_shape[1:])
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    model, images = keras.Model(inputs, keras.layers.Dense(3)(x)), random_images()
    np.testing.assert_allclose(
        grad_cam(model, images, layer="backbone"),
        grad_cam(model, images, layer="gate_2"),
        atol=1e-5,
    )


def test_batches_are_joined():
    model, images = classifier(), random_images(5)
    for classes in (None, [0, 1, 2, 3, 0]):
        whole = class_activation(model, images, classes)
        parts = class_activation(model, images, classes, batch_size=2)
        assert whole[3:] == parts[3:] == ("gate_1", (10, 8))
        for one, other in zip(whole[:3], parts[:3], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("end", [*ENDS, "sigmoid"])
def test_classes_and_probabilities(end):
    model, images = classifier(end), random_images(3)
    outputs = ops.convert_to_numpy(model(images.astype("float32")))
    if end is None:
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    activation = class_activation(model, images)
    np.testing.assert_array_equal(activation.classes, outputs.argmax(axis=1))
    np.testing.assert_allclose(activation.probabilities, outputs, atol=1e-5)


def test_the_model_is_as_before():
    model, images = classifier(), random_images()
    before = model.predict(images, verbose=0)
    grad_cam(model, images)
    assert model.get_layer("scores").activation is keras.activations.softmax
    assert all("call" not in vars(operation) for operation in model.operations)
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)


@pytest.mark.parametrize("end", ["sigmoid", None])
def test_one_score_speaks_for_two_classes(end):
    model, images = classifier(end, classes=1), random_images(3)
    scores = ops.convert_to_numpy(model(images.astype("float32")))[:, 0]
    activation = class_activation(model, images)
    is_positive = scores > (0.5 if end else 0)
    np.testing.assert_array_equal(activation.classes, is_positive)
    if end:
        np.testing.assert_allclose(activation.probabilities[:, 1], scores, atol=1e-5)
    for_it, against_it = grad_cam(model, images, 1), grad_cam(model, images, 0)
    assert not np.allclose(for_it, against_it)
    assert (np.minimum(for_it.min(axis=(1, 2)), against_it.min(axis=(1, 2))) == 0).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    exact = classifier()
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    maps = grad_cam(model, random_images(), 1)
    assert maps.dtype == np.float32
    assert np.abs(maps - grad_cam(exact, random_images(), 1)).max() < 0.1


def test_a_model_of_two_inputs():
    images, numbers = random_images(2, (8, 8)), np.ones((2, 5))
    inputs = [keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="numbers")]
    x = keras.layers.GlobalMaxPooling2D()(CBAM()(keras.layers.Conv2D(4, 3)(inputs[0])))
    x = keras.layers.Concatenate()([x, inputs[1]])
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    maps = grad_cam(model, [images, numbers])
    assert maps.shape == (2, 8, 8)
    by_name = grad_cam(model, {"numbers": numbers, "image": images})
    np.testing.assert_array_equal(by_name, maps)


def test_zeros_where_nothing_speaks_for_the_class():
    model = known_logits(None)
    maps = grad_cam(model, np.full((1, 6, 6, 3), -1.0), 0)
    np.testing.assert_array_equal(maps, np.zeros((1, 6, 6)))


def test_padding_and_single_positions_are_passed_over():
    model = attention_classifier(
        "MobileNet", 3, attention=None, weights=None, input_shape=(32, 32, 3), alpha=0.25
    )
    images = random_images(1, (32, 32))
    np.testing.assert_array_equal(
        grad_cam(model, images), grad_cam(model, images, layer="conv_pw_3_relu")
    )


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        ((1, 2, 7), ("layer_1", (7, 7))),
        ((2, 2, 1), ("layer_0", (7, 7))),
        ((3, 5, 1), ("layer_0", (5, 5))),
        ((3, 1, 2), ("layer_2", (3, 3))),
    ],
)
def test_the_last_layer_of_7_x_7_or_else_of_more_than_one_position(strides, expected):
    inputs = x = keras.Input((14, 14, 3))
    for index, stride in enumerate(strides):
        x = keras.layers.Conv2D(4, 1, stride, padding="same", name=f"layer_{index}")(x)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    activation = class_activation(keras.Model(inputs, outputs), random_images(1, (14, 14)))
    assert (activation.layer, activation.size) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_index": 4}, r"from 0 to 3, the classes of the model. Received: class_index=4"),
        ({"class_index": -1}, r"Received: class_index=-1"),
        ({"class_index": 1.5}, r"must be an integer.*Received: class_index=1.5"),
        ({"class_index": True}, r"Received: class_index=True"),
        ({"class_index": [1]}, r"one class for each of the images"),
        ({"class_index": [1, 1, 1]}, r"3 classes for 2 images"),
        ({"layer": "gate_3"}, r"no such layer. Did you mean 'gate_\d'.*Received: layer='gate_3'"),
        ({"layer": "scores"}, r"`layer` must have feature maps"),
        ({"layer": keras.layers.Conv2D(1, 1)}, r"no such layer. It has"),
        ({"class_index": np.array([], int)}, r"Received: class_index=array"),
        ({"batch_size": 0}, r"Received: batch_size=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(classifier(), random_images(), **arguments)


def test_models_that_are_no_classifiers():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    images = random_images(2, (8, 8))
    with pytest.raises(ValueError, match=r"one output of class scores.*\[\(1, 6, 6, 4\)\]"):
        grad_cam(keras.Model(inputs, x), images)
    two = [keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)) for _ in range(2)]
    with pytest.raises(ValueError, match=r"one output of class scores"):
        grad_cam(keras.Model(inputs, two), images)
    flat = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    with pytest.raises(ValueError, match=r"with a layer of feature maps"):
        grad_cam(keras.Model(inputs, flat), images)
    signal = keras.Input((8, 3))
    dense = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(signal))
    with pytest.raises(ValueError, match=r"layer of feature maps \(batch, steps, channels\)"):
        grad_cam(keras.Model(signal, dense), np.zeros((2, 8, 3)))


def known_logits_of(inputs, features, pool):
    """A model whose logit k is the mean of channel k of three features."""
    scores = keras.layers.Dense(3, use_bias=False, name="scores")(pool(features))
    model = keras.Model(inputs, scores)
    model.get_layer("scores").set_weights([np.eye(3)])
    return model


def test_sequences_and_volumes():
    generator = np.random.default_rng(0)
    for shape, pool in (
        ((7,), keras.layers.GlobalAveragePooling1D()),
        ((3, 5, 4), keras.layers.GlobalAveragePooling3D()),
    ):
        inputs = keras.Input((*shape, 3))
        model = known_logits_of(inputs, keras.layers.Rescaling(2.0)(inputs), pool)
        values = generator.normal(size=(2, *shape, 3)).astype("float32")
        expected = np.maximum(values[..., 1], 0)
        expected /= expected.max(axis=tuple(range(1, expected.ndim)), keepdims=True)
        np.testing.assert_allclose(grad_cam(model, values, 1), expected, atol=1e-5)


def test_maps_of_a_volume_have_its_size():
    inputs = keras.Input((6, 8, 10, 2))
    x = keras.layers.Conv3D(3, 3, strides=2, padding="same", name="features")(inputs)
    x = CBAM(name="gate")(x)
    model = known_logits_of(inputs, x, keras.layers.GlobalMaxPooling3D())
    volumes = np.random.default_rng(0).normal(size=(2, 6, 8, 10, 2))
    maps = grad_cam(model, volumes, 0)
    assert maps.shape == (2, 6, 8, 10)
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert attention_maps(model, volumes)["gate"].spatial.shape == (2, 3, 4, 5, 1)


def test_sequences_of_tokens():
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(5, 3, name="table")(tokens)
    model = known_logits_of(tokens, x, keras.layers.GlobalAveragePooling1D())
    table = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    model.get_layer("table").set_weights([table])
    words = np.array([[0, 1, 2, 3, 4, 4], [1, 1, 0, 0, 2, 3]])
    expected = np.maximum(table[words][..., 2], 0)
    expected /= expected.max(axis=1, keepdims=True)
    np.testing.assert_allclose(grad_cam(model, words, 2), expected, atol=1e-5)


def test_layers_that_are_called_by_keyword():
    inputs = keras.Input((6, 6, 3))
    x = CBAM(name="gate")(inputs=keras.layers.Conv2D(4, 3)(inputs=inputs))
    x = keras.layers.GlobalAveragePooling2D()(inputs=x)
    x = keras.layers.Dense(3, name="scores")(inputs=x)
    logits = keras.Model(inputs, x)
    model = keras.Model(inputs, keras.layers.Softmax()(inputs=x))
    images = random_images(2, (6, 6))
    np.testing.assert_allclose(grad_cam(model, images), grad_cam(logits, images), atol=1e-5)
    assert attention_maps(model, images)["gate"].spatial.shape == (2, 4, 4, 1)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_dataset(labelled):
    tf = pytest.importorskip("tensorflow")
    model, images = classifier(), random_images(5)
    data = (images, np.zeros(5)) if labelled else images
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(2)
    np.testing.assert_array_equal(grad_cam(model, dataset), grad_cam(model, images))
    for name, scores in attention_maps(model, images).items():
        found = attention_maps(model, dataset)[name]
        np.testing.assert_array_equal(found.spatial, scores.spatial)
    with pytest.raises(ValueError, match=r"The dataset must end, use `take\(batches\)`"):
        grad_cam(model, dataset.repeat())
    with pytest.raises(ValueError, match=r"There is no image"):
        grad_cam(model, dataset.take(0))


def test_an_unknown_layer_of_a_deep_model():
    inputs = x = keras.Input((6, 6, 3))
    for _ in range(60):
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ValueError, match=r"no such layer. Known: .* and 20 more") as error:
        grad_cam(keras.Model(inputs, x), random_images(1, (6, 6)), layer="zzz")
    assert len(str(error.value)) < 1000


def test_scores_that_are_not_finite():
    model = classifier(None)
    model.get_layer("scores").set_weights([np.full((6, 4), np.inf), np.zeros(4)])
    with pytest.raises(ValueError, match=r"scores of the model are not finite"):
        grad_cam(model, random_images())


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow's convolutions on the CPU")
def test_channels_first():
    first, last = (known_logits(None) for _ in range(2))
    inputs = keras.Input((3, 6, 6))
    x = keras.layers.Conv2D(3, 1, use_bias=False, data_format="channels_first")(inputs)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    first = keras.Model(inputs, keras.layers.Dense(3)(x))
    first.set_weights(last.get_weights())
    images = random_images(2, (6, 6))
    np.testing.assert_allclose(
        grad_cam(first, np.moveaxis(images, -1, 1), 1), grad_cam(last, images, 1), atol=1e-5
    )


def test_the_map_of_the_cat_covers_the_cat():
    tool = pretrained()
    from skimage import data

    photo = data.chelsea()
    activation = class_activation(tool.load(), (photo[None] / 255 - tool.MEAN) / tool.STD)
    assert activation.classes[0] == 285
    (cam,) = activation.maps
    # The cat fills the photo from its left edge to the tip of its ear, 390 of 451 columns.
    assert cam[:, :390].mean() >= 2 * cam[:, 390:].mean()


def test_each_class_has_its_half_of_two_photos():
    tool = pretrained()
    from skimage import data

    photos = [photo[None].astype("float32") for photo in (data.chelsea(), data.coffee())]
    halves = [ops.image.resize(photo, (225, 225), antialias=True) for photo in photos]
    both = ops.convert_to_numpy(ops.concatenate(halves, axis=2))
    pixels = (np.concatenate([both, both]) / 255 - tool.MEAN) / tool.STD
    cat, coffee = grad_cam(tool.load(), pixels, [285, 967])
    assert cat[:, :225].mean() >= 2 * cat[:, 225:].mean()
    assert coffee[:, 225:].mean() >= 2 * coffee[:, :225].mean()
