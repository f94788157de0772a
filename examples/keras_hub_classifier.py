"""A classifier of keras-hub with CBAM in its backbone; it stays that task. Extra: detection."""

import keras_hub
import numpy as np

from keras_cbam import insert_attention


def main():
    # `ImageClassifier.from_preset("resnet_50_imagenet", num_classes=5)` downloads weights; this
    # small backbone has random ones.
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    task = keras_hub.models.ImageClassifier(backbone=backbone, num_classes=5)
    with_attention = insert_attention(task)
    print(type(with_attention).__name__, with_attention.count_params() - task.count_params())

    random = np.random.default_rng(0)
    images, labels = random.random((8, 32, 32, 3)), random.integers(0, 5, 8)
    difference = task.predict(images, verbose=0) - with_attention.predict(images, verbose=0)
    print("largest difference after insertion:", np.abs(difference).max())
    with_attention.fit(images, labels, batch_size=4, shuffle=False, verbose=2)
    return float(np.abs(difference).max())


if __name__ == "__main__":
    main()
