"""Fine-tuning of a pretrained MobileNetV2 on the embedded clothing images, with and without CBAM.

    python benchmarks/finetune.py --weights mobilenet_v2_imagenet.npz [--output FILE]

The weights are ImageNet-1k weights of MobileNetV2 keyed `<layer>/<index>`, for RGB images of
zero mean and unit deviation with symmetric padding: at 97 x 97, or any 32 k + 1, the padding of
Keras agrees with it. Four networks, equal epochs, several seeds; mean and deviation of the accuracy
on the 1,000 test images. What is done stands in the output file, a line of JSON a run, and is not
done again.

`--photos` prints instead what insertion does to the logits of two photos (of scikit-image) and to
the activations, with and without the start as an identity.
"""

import argparse
import pathlib
import sys
import time

import keras
import numpy as np
from resumed import mean_and_deviation, run_missing

from keras_cbam import attention_backbone, insert_attention, remove_attention
from keras_cbam.classification import fit_classifier
from keras_cbam.data import load_data
from keras_cbam.models.building import DEVIATION, MEAN

VARIANTS = {
    "no attention": (None, True),
    "SE": ("se", True),
    "CBAM from identity": ("cbam", True),
    "CBAM not from identity": ("cbam", False),
}
IMAGE_SIZE = 97
PHOTO_SIZE = 225


def backbone(variant, weights, size):
    attention, start_as_identity = VARIANTS[variant]
    model = attention_backbone(
        "MobileNetV2", attention=None, weights=weights, input_shape=(size, size, 3)
    )
    if attention is None:
        return model
    return insert_attention(model, attention, start_as_identity=start_as_identity)


def run(variant, seed, options):
    """Accuracy after every epoch, of one network and seed."""
    start = time.perf_counter()
    data = load_data(None, IMAGE_SIZE, seed=0)
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3))
    x = keras.layers.Normalization(mean=MEAN, variance=DEVIATION**2)(inputs)
    x = backbone(variant, options.weights, IMAGE_SIZE)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(len(data.class_names), activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    history = fit_classifier(
        model,
        data,
        recipe="fine-tuning",
        epochs=options.epochs,
        freeze_epochs=options.freeze_epochs,
        batch_size=options.batch_size,
        weight_decay=1e-4,
        # Shoes and bags of the set all look one way.
        augment="none",
        seed=seed,
        verbose=0,
    )
    return {
        "accuracy": history["val_accuracy"],
        "seconds": round(time.perf_counter() - start),
    }


def print_table(rows, options):
    print(
        f"\n{options.epochs} epochs, the first {options.freeze_epochs} with a frozen backbone, "
        f"batches of {options.batch_size}, {len(options.seeds)} seeds\n\n"
        "| network | accuracy, mean | deviation | seeds | after the frozen epochs |\n"
        "|---|---|---|---|---|"
    )
    for variant in VARIANTS:
        histories = [row["accuracy"] for row in rows if row["variant"] == variant]
        last = [history[-1] for history in histories]
        frozen, _ = mean_and_deviation(
            [history[options.freeze_epochs - 1] for history in histories]
        )
        mean, deviation = mean_and_deviation(last)
        each = ", ".join(f"{value:.3f}" for value in last)
        print(f"| {variant} | {mean:.4f} | {deviation:.4f} | {each} | {frozen:.4f} |")


def photos(options):
    """Two photos through the network, plain and with attention."""
    from PIL import Image
    from skimage import data

    pixels = []
    for image in (data.chelsea(), data.coffee()):
        photo = Image.fromarray(image)
        scale = PHOTO_SIZE * 256 / 224 / min(photo.size)
        photo = photo.resize([round(side * scale) for side in photo.size], Image.BILINEAR)
        left, top = ((side - PHOTO_SIZE) // 2 for side in photo.size)
        box = (left, top, left + PHOTO_SIZE, top + PHOTO_SIZE)
        pixels.append((np.asarray(photo.crop(box), "float32") - MEAN) / DEVIATION)
    pixels = np.stack(pixels).astype("float32")
    models = {}
    for variant in ("no attention", "CBAM from identity", "CBAM not from identity"):
        keras.utils.set_random_seed(0)
        features = backbone(variant, options.weights, PHOTO_SIZE)
        x = keras.layers.GlobalAveragePooling2D()(features.output)
        models[variant] = keras.Model(
            features.input, keras.layers.Dense(1000, name="predictions")(x)
        )
        with np.load(options.weights) as arrays:
            kernel, bias = (arrays[f"predictions/{i}"] for i in range(2))
        models[variant].get_layer("predictions").set_weights([kernel, bias])
    expected = models["no attention"].predict(pixels, verbose=0)
    removed = remove_attention(models["CBAM not from identity"])
    print("| network | classes of the photos | largest difference of the logits |\n|---|---|---|")
    for variant, model in {**models, "CBAM not from identity, removed again": removed}.items():
        logits = model.predict(pixels, verbose=0)
        classes = ", ".join(map(str, logits.argmax(axis=-1)))
        print(f"| {variant} | {classes} | {np.max(np.abs(logits - expected)):.1e} |")
    names = ["expanded_conv_project_BN"] + [
        layer.name
        for layer in models["no attention"].layers
        if layer.name.startswith("block_") and layer.name.endswith(("_add", "_project_BN"))
    ]
    names = [
        name for name in names if name.replace("_project_BN", "_add") not in names or "add" in name
    ]
    print("\nMean absolute activation after each block (the two photos):\n")
    print(f"| block | {' | '.join(map(str, range(len(names))))} |\n{'|---' * (len(names) + 1)}|")
    for variant, model in models.items():
        layers = {layer.name: layer for layer in model.layers}
        outputs = [layers.get(f"{name}_cbam", layers[name]).output for name in names]
        values = keras.Model(model.input, outputs).predict(pixels, verbose=0)
        print(f"| {variant} | {' | '.join(f'{np.mean(np.abs(v)):.3f}' for v in values)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, metavar="FILE")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--freeze-epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=pathlib.Path, default="finetune.jsonl")
    parser.add_argument("--photos", action="store_true")
    options = parser.parse_args()
    if options.photos:
        return photos(options)
    rows = run_missing(
        options,
        ("epochs", "freeze_epochs", "batch_size"),
        [{"variant": variant} for variant in VARIANTS],
        lambda case, seed: run(case["variant"], seed, options),
    )
    print_table(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
