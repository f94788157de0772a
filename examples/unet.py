"""A U-Net with CBAM in its blocks and on its skip connections, for images of any size."""

import keras
import numpy as np

from keras_cbam import CBAM


def block(x, filters):
    for _ in range(2):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return CBAM(reduction_ratio=8, start_as_identity=True)(x)


def unet(classes, filters=(16, 32, 64)):
    inputs = x = keras.Input((None, None, 3))
    skips = []
    for number in filters[:-1]:
        x = block(x, number)
        skips.append(x)
        x = keras.layers.MaxPooling2D()(x)
    x = block(x, filters[-1])
    for number, skip in zip(reversed(filters[:-1]), reversed(skips)):
        x = keras.layers.Conv2DTranspose(number, 2, strides=2)(x)
        x = keras.layers.Concatenate()([x, CBAM(reduction_ratio=8)(skip)])
        x = block(x, number)
    return keras.Model(inputs, keras.layers.Conv2D(classes, 1, activation="softmax")(x))


def main():
    model = unet(classes=2)
    images = np.random.default_rng(0).random((8, 64, 64, 3))
    masks = (images.mean(-1) > 0.5).astype("int32")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, masks, batch_size=4, epochs=1, verbose=2)
    print(model.predict(images[:1, :32, :48], verbose=0).shape)


if __name__ == "__main__":
    main()
