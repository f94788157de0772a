"""CBAM in a pretrained network: the same predictions, then fine-tuning of the attention alone."""

import keras
import numpy as np

from keras_cbam import AttentionLayer, insert_attention


def main(weights=None):
    # `weights="imagenet"` downloads the pretrained weights; without a network they are random.
    base = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=weights)
    with_attention = insert_attention(base)

    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (16, 96, 96, 3)), random.integers(0, 5, 16)
    pixels = keras.applications.mobilenet_v2.preprocess_input(images.astype("float32"))
    difference = base.predict(pixels, verbose=0) - with_attention.predict(pixels, verbose=0)
    print("largest difference after insertion:", np.abs(difference).max())

    # Only the attention and the new classifier train.
    for layer in with_attention.layers:
        layer.trainable = isinstance(layer, AttentionLayer)
    x = keras.layers.GlobalAveragePooling2D()(with_attention.output)
    outputs = keras.layers.Dense(5, activation="softmax")(x)
    model = keras.Model(with_attention.input, outputs)
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    model.fit(pixels, labels, batch_size=8, epochs=1, verbose=2)
    print(len(model.trainable_variables), "trainable variables")
    return float(np.abs(difference).max())


if __name__ == "__main__":
    main()
