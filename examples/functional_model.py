"""CBAM in a Functional model: training, attention maps, saving and loading.

Trains on random images; put your own in their place.
"""

import keras
import numpy as np

from keras_cbam import CBAM, attention_maps


def block(x, filters):
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = CBAM(reduction_ratio=8)(keras.layers.ReLU()(x))
    return keras.layers.MaxPooling2D()(x)


def main():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (32, 64):
        x = block(x, filters)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))

    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (64, 32, 32, 3)), random.integers(0, 10, 64)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=16, epochs=1, verbose=2)
    model.save("model.keras")

    loaded = keras.models.load_model("model.keras")
    for name, maps in attention_maps(loaded, images[:2]).items():
        print(name, maps.channel.shape, maps.spatial.shape)


if __name__ == "__main__":
    main()
