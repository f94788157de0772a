import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cbam.classification.recipes import coupled_weight_decay, fit_by_steps, step_schedule

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(6, 4)).astype("float32")
Y = np.array([0, 1, 2, 0, 1, 2], "int32")
DECAY = 0.3


def one_layer(regularizer=None):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(
        3, activation="softmax", kernel_regularizer=regularizer, dtype="float32"
    )(inputs)
    model = keras.Model(inputs, outputs)
    model.set_weights([np.linspace(-1, 1, 12).reshape(4, 3), np.array([0.5, -0.5, 1.0])])
    return model


def fit(model, epochs, decay_epochs=30, weight_decay=DECAY):
    batches = tf.data.Dataset.from_tensors((X, Y))
    return fit_by_steps(
        model,
        lambda epoch, first_step: batches,
        batches,
        epochs=epochs,
        learning_rate=0.1,
        decay_epochs=decay_epochs,
        weight_decay=weight_decay,
        verbose=0,
    )


def steps_by_hand(weights, epochs, decays):
    """PyTorch's rule: v = 0.9 v + (gradient + decay w), w = w - rate v."""
    velocities = [np.zeros_like(weight) for weight in weights]
    for _ in range(epochs):
        kernel, bias = weights
        logits = X @ kernel + bias
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        error = (scores - np.eye(3)[Y]) / len(X)
        gradients = [X.T @ error, error.sum(axis=0)]
        for i, decay in enumerate(decays):
            velocities[i] = 0.9 * velocities[i] + gradients[i] + decay * weights[i]
        weights = [w - 0.1 * v for w, v in zip(weights, velocities)]
    return weights


@pytest.mark.parametrize("weight_decay", [0.0, DECAY])
def test_steps_are_those_of_pytorch(weight_decay):
    model = one_layer()
    expected = steps_by_hand(model.get_weights(), 3, (weight_decay, weight_decay))
    fit(model, 3, weight_decay=weight_decay)
    for ours, theirs in zip(model.get_weights(), expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_own_regularizer_is_added_to():
    model = one_layer(keras.regularizers.L2(0.05))
    expected = steps_by_hand(model.get_weights(), 2, (DECAY + 0.1, DECAY))
    fit(model, 2)
    for ours, theirs in zip(model.get_weights(), expected):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_losses_include_the_decay():
    model = one_layer()
    squares = sum(float(np.sum(weight**2)) for weight in model.get_weights())
    history = fit(model, 1)
    plain = fit(one_layer(), 1, weight_decay=0.0)
    assert history["loss"][0] - plain["loss"][0] == pytest.approx(DECAY / 2 * squares, rel=1e-5)


def test_regularizers_are_as_they_were():
    model = one_layer(keras.regularizers.L2(0.05))
    before = [variable.regularizer for variable in model.trainable_variables]
    with coupled_weight_decay(model, DECAY):
        assert None not in [variable.regularizer for variable in model.trainable_variables]
    assert [variable.regularizer for variable in model.trainable_variables] == before


def test_rates_of_the_paper():
    schedule = step_schedule(0.1, 30).schedule
    rates = [schedule(epoch, None) for epoch in (0, 29, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_rates_in_a_training(policy, dtype_policy):
    dtype_policy(policy)
    history = fit(one_layer(), 5, decay_epochs=2)
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert np.isfinite(history["loss"]).all()


def test_regularizers_are_restored_after_an_error():
    model = one_layer()
    with pytest.raises(KeyError), coupled_weight_decay(model, DECAY):
        raise KeyError
    assert [variable.regularizer for variable in model.trainable_variables] == [None, None]
