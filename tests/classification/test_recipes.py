import math

import keras
import numpy as np
import pytest

from keras_cbam import CBAM, insert_attention
from keras_cbam.classification.arguments import ClassifierArguments
from keras_cbam.classification.recipes import recipe_phases
from keras_cbam.training.optimization import coupled_weight_decay

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(6, 4)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2], "int32")
DECAY = 0.3
FINE_TUNING = {"recipe": "fine-tuning", "backbone": "MobileNetV2", "weights": "imagenet"}
PAPER = {"recipe": "paper", "data": "images"}


def phases(model, steps=1, **given):
    return recipe_phases(ClassifierArguments.given(**given), model, steps)


def one_layer(regularizer=None):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(
        3, activation="softmax", kernel_regularizer=regularizer, dtype="float32"
    )(inputs)
    model = keras.Model(inputs, outputs)
    model.set_weights([np.linspace(-1, 1, 12).reshape(4, 3), np.array([0.5, -0.5, 1.0])])
    return model


def gradients(kernel, bias):
    scores = np.exp(X @ kernel + bias)
    scores /= scores.sum(axis=1, keepdims=True)
    error = (scores - np.eye(3)[Y]) / len(X)
    return X.T @ error, error.sum(axis=0)


def fit(model, epochs, **given):
    """A step an epoch."""
    (phase,) = phases(model, epochs=epochs, **given)
    assert phase.epochs == epochs
    with phase.compiled():
        # Tracing takes longer than the steps.
        model.run_eagerly = True
        return model.fit(X, Y, epochs=epochs, batch_size=len(X), verbose=0).history


def assert_close(model, expected):
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def paper_by_hand(weights, rates, decays):
    """PyTorch's rule, with the decay in the gradient; Keras has the rate in the velocity."""
    velocities = [0.0, 0.0]
    for rate in rates:
        for i, gradient in enumerate(gradients(*weights)):
            velocities[i] = 0.9 * velocities[i] - rate * (gradient + decays[i] * weights[i])
        weights = [weight + velocity for weight, velocity in zip(weights, velocities)]
    return weights


@pytest.mark.parametrize("weight_decay", [0.0, DECAY])
def test_steps_of_the_paper(weight_decay):
    model = one_layer()
    rates = [0.1, 0.1, 0.01]
    expected = paper_by_hand(model.get_weights(), rates, (weight_decay, weight_decay))
    fit(model, 3, decay_epochs=2, weight_decay=weight_decay, **PAPER)
    assert_close(model, expected)


def test_own_regularizer_is_added_to():
    model = one_layer(keras.regularizers.L2(0.05))
    expected = paper_by_hand(model.get_weights(), [0.1, 0.1], (DECAY + 0.1, DECAY))
    fit(model, 2, weight_decay=DECAY, **PAPER)
    assert_close(model, expected)


def test_losses_of_the_paper_include_the_decay():
    model = one_layer()
    plain = model.get_weights()
    probabilities = model.predict(X, verbose=0)[range(len(Y)), Y]
    history = fit(model, 1, weight_decay=DECAY, **PAPER)
    expected = -np.log(probabilities).mean() + DECAY / 2 * sum((w**2).sum() for w in plain)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_steps_of_the_default_recipe():
    """Nesterov momentum 0.9 and a decay of kernels that is not in the gradient."""
    model = one_layer()
    weights, velocities = model.get_weights(), [0.0, 0.0]
    # One step of the rise, then a cosine.
    for step in range(4):
        rate = 0.1 if step < 2 else 0.1 * (1 + math.cos(math.pi * (step - 1) / 3)) / 2
        found = gradients(*weights)
        for i, decay in enumerate((DECAY, 0)):
            velocities[i] = 0.9 * velocities[i] - rate * found[i]
            decayed = weights[i] * (1 - rate * decay)
            weights[i] = decayed + 0.9 * velocities[i] - rate * found[i]
    fit(model, 4, learning_rate=0.1, weight_decay=DECAY)
    assert_close(model, weights)


def rates(model, steps):
    """The rate of each step of a compiled model."""
    found = []
    for step in range(steps):
        model.optimizer.iterations.assign(step)
        found.append(float(model.optimizer.learning_rate))
    return found


def rise_and_fall(rate, steps, peak):
    rise = [rate / peak + (rate - rate / peak) * step / peak for step in range(peak)]
    cosine = [math.cos(math.pi * step / (steps - peak)) for step in range(steps - peak)]
    return [*rise, *(rate * (1 + value) / 2 for value in cosine)]


def test_the_rate_rises_for_a_fifth_of_the_steps_and_falls_by_a_cosine():
    model = one_layer()
    (phase,) = phases(model, steps=10, epochs=2, learning_rate=0.5)
    with phase.compiled():
        found = rates(model, 20)
    assert found == pytest.approx(rise_and_fall(0.5, 20, 4), rel=1e-5)
    assert np.argmax(found) == 4


def test_each_phase_of_a_fine_tuning_has_its_optimizer_and_rate():
    model = classifier()
    first, second = phases(model, 5, epochs=6, freeze_epochs=2, learning_rate=0.1, **FINE_TUNING)
    assert (first.epochs, second.epochs) == (2, 4)
    for phase, rate, steps in ((first, 0.1, 10), (second, 0.01, 20)):
        with phase.compiled():
            assert isinstance(model.optimizer, keras.optimizers.AdamW)
            assert rates(model, steps) == pytest.approx(
                rise_and_fall(rate, steps, steps // 5), rel=1e-5
            )


@pytest.mark.parametrize(("freeze_epochs", "expected"), [(0, [3]), (1, [1, 2]), (3, [3])])
def test_phases_of_no_epoch_are_left_out(freeze_epochs, expected):
    found = phases(classifier(), epochs=3, freeze_epochs=freeze_epochs, **FINE_TUNING)
    assert [phase.epochs for phase in found] == expected


def test_the_rate_of_the_paper_drops_with_the_epochs():
    model = one_layer()
    (phase,) = phases(model, steps=5, epochs=7, decay_epochs=2, learning_rate=0.1, **PAPER)
    with phase.compiled():
        found = rates(model, 35)
    expected = [0.1] * 10 + [0.01] * 10 + [0.001] * 10 + [0.0001] * 5
    assert found == pytest.approx(expected, rel=1e-5)


def backbone():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    branch = keras.layers.Conv2D(4, 3, padding="same", name="branch")(x)
    branch = keras.layers.BatchNormalization(name="branch_bn")(branch)
    return keras.Model(inputs, keras.layers.Add(name="add")([x, branch]), name="backbone")


def classifier(attention="cbam"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = insert_attention(backbone(), attention)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(2, activation="softmax", dtype="float32", name="head")(x)
    return keras.Model(inputs, outputs)


def leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in leaves(model)}


def changed(model, before):
    """The layers whose weights are no longer those in `before`."""
    return {
        name
        for name, weights in weights_of(model).items()
        if any(not np.array_equal(*pair) for pair in zip(weights, before[name], strict=True))
    }


def test_what_each_phase_of_a_fine_tuning_trains():
    model = classifier({"class_name": "spatial", "config": {"use_batch_norm": True}})
    images = GENERATOR.integers(0, 256, (8, 16, 16, 3)).astype("uint8")
    found = []
    for phase in phases(model, epochs=2, freeze_epochs=1, weight_decay=0.0, **FINE_TUNING):
        before = weights_of(model)
        with phase.compiled():
            model.run_eagerly = True
            model.fit(images, np.arange(8) % 2, epochs=2, verbose=0)
        found.append(changed(model, before))
    assert found[0] == {"branch_bn_spatial", "head"}
    # The batch normalization of the backbone has the statistics of its weights.
    assert found[1] == {"stem", "branch", "branch_bn_spatial", "head"}
    # The attention's own batch normalization is new, and gathers statistics.
    gate = model.get_layer("backbone").get_layer("branch_bn_spatial")
    assert np.all(np.array(gate.batch_norm.moving_mean) != 0)


@pytest.mark.parametrize("given", [{}, PAPER])
def test_the_other_recipes_train_everything(given):
    model = classifier()
    everything = [weight.path for weight in model.trainable_variables]
    with phases(model, epochs=1, **given)[0].compiled():
        assert [weight.path for weight in model.trainable_variables] == everything
    assert any("stem_bn/gamma" in path for path in everything)


def flags(model):
    return {layer.name: layer.trainable for layer in model._flatten_layers()}


@pytest.mark.parametrize("ends", ["well", "by an error"])
@pytest.mark.parametrize("number", [0, 1])
def test_flags_are_as_they_were(number, ends):
    model = classifier()
    model.get_layer("backbone").get_layer("stem").trainable = False
    before = flags(model)
    phase = phases(model, epochs=2, freeze_epochs=1, **FINE_TUNING)[number]
    try:
        with phase.compiled():
            assert not flags(model)["stem"]
            assert not flags(model)["stem_bn"]
            assert flags(model)["branch"] == (number == 1)
            if ends == "by an error":
                raise KeyError
    except KeyError:
        assert ends == "by an error"
    assert flags(model) == before


@keras.saving.register_keras_serializable(package="tests")
class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = keras.layers.Conv2D(3, 3, padding="same", name="inner_convolution")
        self.normalization = keras.layers.BatchNormalization(name="inner_normalization")
        self.attention = CBAM(reduction_ratio=1, name="inner_attention")

    def build(self, input_shape):
        for layer in (self.convolution, self.normalization, self.attention):
            layer.build(input_shape)

    def call(self, inputs, training=None):
        return self.attention(self.normalization(self.convolution(inputs), training=training))


@pytest.mark.parametrize(
    ("number", "trained"), [(0, {"attention"}), (1, {"attention", "convolution"})]
)
def test_layers_inside_of_layers(number, trained):
    inputs = keras.Input((16, 16, 3))
    block = Block(name="block")
    network = keras.Model(inputs, inputs + block(inputs), name="backbone")
    x = keras.layers.GlobalAveragePooling2D()(network(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    before = flags(model)
    with phases(model, epochs=2, freeze_epochs=1, **FINE_TUNING)[number].compiled():
        found = {
            name
            for name in ("attention", "convolution", "normalization")
            if getattr(block, name).trainable_variables
        }
    assert found == trained
    assert flags(model) == before


@pytest.mark.parametrize(
    ("given", "number", "expected"),
    [
        ({}, 0, {"stem/0", "branch/0", "head/0"}),
        # While the backbone is frozen, so are its kernels.
        ({**FINE_TUNING, "freeze_epochs": 1}, 0, {"head/0"}),
        ({**FINE_TUNING, "freeze_epochs": 1}, 1, {"stem/0", "branch/0", "head/0"}),
    ],
)
def test_weight_decay_is_for_the_kernels_of_the_network(given, number, expected):
    model = classifier()
    model.set_weights([np.ones_like(weight) for weight in model.get_weights()])
    found = phases(model, epochs=2, learning_rate=0.1, weight_decay=0.5, **given)[number]
    with found.compiled():
        variables = model.trainable_variables
        rate = float(model.optimizer.learning_rate)
        # A step of no gradient is the decay alone.
        model.optimizer.apply([keras.ops.zeros(weight.shape) for weight in variables], variables)
    decayed = {}
    for layer in leaves(model):
        for index, weight in enumerate(layer.get_weights()):
            if not np.array_equal(weight, np.ones_like(weight)):
                decayed[f"{layer.name}/{index}"] = weight.ravel()[0]
    assert decayed == {name: pytest.approx(1 - 0.5 * rate) for name in expected}


@pytest.mark.parametrize("recipe", [{}, {**FINE_TUNING, "freeze_epochs": 1}, PAPER])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_label_smoothing(recipe, label_smoothing):
    model = classifier()
    given = {"weight_decay": 0.0, "label_smoothing": label_smoothing}
    labels, found = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]], "float32")
    smoothed = np.eye(2)[labels] * (1 - label_smoothing) + label_smoothing / 2
    with phases(model, epochs=2, **given, **recipe)[0].compiled():
        loss = model.compute_loss(
            y=np.eye(2, dtype="float32")[labels] if label_smoothing else labels, y_pred=found
        )
    expected = -(smoothed * np.log(found)).sum(axis=1).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("recipe", [{}, FINE_TUNING, PAPER])
@pytest.mark.parametrize("xla", [False, True])
def test_xla(recipe, xla):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX compiles in any case, PyTorch in none")
    model = classifier()
    for phase in phases(model, xla=xla, **recipe):
        with phase.compiled():
            assert model.jit_compile is xla


def test_a_fine_tuning_needs_a_backbone():
    with pytest.raises(ValueError, match="needs a model with a backbone: a model among its layers"):
        phases(one_layer(), **FINE_TUNING)[0].compiled().__enter__()


@pytest.mark.parametrize("ends", ["well", "by an error"])
def test_regularizers_are_as_they_were(ends):
    model = one_layer(keras.regularizers.L2(0.05))
    before = [variable.regularizer for variable in model.trainable_variables]
    try:
        with coupled_weight_decay(model.trainable_variables, DECAY):
            assert None not in [variable.regularizer for variable in model.trainable_variables]
            if ends == "by an error":
                raise KeyError
    except KeyError:
        assert ends == "by an error"
    assert [variable.regularizer for variable in model.trainable_variables] == before
