"""CBAM on JAX: a loop of your own with a stateless call and `jax.value_and_grad`. Extra: jax."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

from keras_cbam import CBAM


def main(steps=20, rate=0.1):
    model = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 3), CBAM(4), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(2))
    random = np.random.default_rng(0)
    images = random.random((32, 16, 16, 3), "float32")
    labels = (images.mean((1, 2, 3)) > 0.5).astype("int32")
    state = [variable.value for variable in model.non_trainable_variables]

    def loss(weights):
        logits, _ = model.stateless_call(weights, state, images, training=True)
        return keras.losses.sparse_categorical_crossentropy(labels, logits, True).mean()

    step = jax.jit(jax.value_and_grad(loss))
    weights, losses = [variable.value for variable in model.trainable_variables], []
    for _ in range(steps):
        value, gradients = step(weights)
        weights = jax.tree.map(lambda weight, g: weight - rate * g, weights, gradients)
        losses.append(float(value))
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    main()
