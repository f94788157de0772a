"""Documented calls of the public API, one function for each room.

Type checkers accept every line of this file (`.ci/run` runs pyright on it), and
`tests/test_documented_calls.py` runs the functions that are cheap.
"""

import functools
import pathlib
import typing

import keras
import numpy as np
import tensorflow as tf

import keras_cbam
from keras_cbam import (
    BAM,
    CBAM,
    AttentionLayer,
    ChannelAttention,
    SpatialAttention,
    attention_backbone,
    attention_classifier,
    attention_maps,
    cost_table,
    count_multiply_adds,
    count_parameters,
    find_sites,
    grad_cam,
    insert_attention,
    plot_attention,
    plot_grad_cam,
    remove_attention,
)
from keras_cbam.classification import (
    classification_report,
    evaluate_run,
    explain_images,
    explain_run,
    export_run,
    fit_classifier,
    predict_run,
    top_errors,
    train_classifier,
)
from keras_cbam.data import load_data, load_part
from keras_cbam.visualization import (
    area_share,
    class_activation,
    compare_grad_cam,
    energy_inside,
    plot_confusion_matrix,
    plot_learning_curves,
    pointing_game,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")


def small_network() -> keras.Model:
    inputs = keras.Input((32, 32, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="first")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def layers() -> None:
    x = np.ones((2, 8, 8, 16), "float32")
    y = CBAM()(x)
    y, (channel_scores, spatial_scores) = CBAM(8, kernel_size=7)(y, return_attention_scores=True)
    assert tuple(channel_scores.shape) == (2, 1, 1, 16)
    assert tuple(spatial_scores.shape) == (2, 8, 8, 1)
    CBAM(
        reduction_ratio=4,
        kernel_size=3,
        pooling=("avg", "max", "lp", "lse"),
        spatial_pooling="conv",
        arrangement="spatial_channel",
        activation=keras.activations.gelu,
        gate_activation="hard_sigmoid",
        use_batch_norm=True,
        residual=True,
        start_as_identity=True,
        data_format="channels_last",
        kernel_initializer=keras.initializers.HeNormal(),
        bias_initializer="zeros",
        kernel_regularizer=keras.regularizers.L2(1e-4),
        bias_regularizer="l1",
        name="attention",
        dtype="mixed_bfloat16",
    )(x, training=True)
    ChannelAttention(
        pooling="avg",
        activation="relu",
        gate_activation=keras.ops.sigmoid,
        use_bias=False,
        kernel_initializer={"class_name": "HeNormal", "config": {}},
        dtype=keras.DTypePolicy("mixed_bfloat16"),
    )(x)
    SpatialAttention(
        5, pooling=["max", "avg"], gate_activation=keras.activations.sigmoid, use_bias=True
    )(x)
    bam: AttentionLayer = BAM(dilation_rate=2, combine="multiply", kernel_initializer="he_normal")
    bam(x)
    keras_cbam.layers.CBAM.from_config(CBAM(data_format="channels_first").get_config())


def choose_by_name(site: str) -> str | None:
    return "se" if site == "first" else None


def insertion() -> None:
    model = small_network()
    assert find_sites(attention_backbone("MobileNet", None, weights=None, alpha=0.25))
    names = ["first", "second"]
    for attention in ("cbam", "se", "channel", "spatial", "bam", "control"):
        insert_attention(model, attention, names, start_as_identity=attention != "bam")
    insert_attention(
        model, {"class_name": "cbam", "config": {"reduction_ratio": 8}}, where="first|second"
    )
    # Keras gives its own function the types of all that it can serialize.
    config: typing.Any = keras.saving.serialize_keras_object(CBAM(4))
    insert_attention(model, config, where={"first"})
    insert_attention(model, CBAM(kernel_size=3), where=("second",))
    insert_attention(model, CBAM, where=names)
    insert_attention(model, functools.partial(CBAM, kernel_size=3), where=names)
    insert_attention(model, lambda: CBAM(), where=names)
    insert_attention(model, choose_by_name, where=names)
    insert_attention(model, None, where=names)
    with_attention = insert_attention(
        model, where=lambda layer: isinstance(layer, keras.layers.Conv2D)
    )
    remove_attention(with_attention)
    remove_attention(with_attention, where="first_cbam")
    remove_attention(with_attention, where=["first_cbam"])


def applications() -> None:
    backbone = attention_backbone(
        "MobileNet", weights=None, input_shape=(32, 32, 3), alpha=0.25, start_as_identity=False
    )
    assert backbone.output_shape == (None, 1, 1, 256)
    attention_backbone("mobilenet", CBAM(4), r"conv_pw_\d+_relu", None, alpha=0.25)
    model = attention_classifier(
        "MobileNet",
        num_classes=5,
        attention={"class_name": "se", "config": {"reduction_ratio": 4}},
        where=["conv_pw_1_relu"],
        weights=None,
        input_shape=(32, 32, 3),
        dropout=0.1,
        alpha=0.25,
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    keras_cbam.applications.application_cost("MobileNet", "se", image_size=32)


def cost() -> None:
    model = small_network()
    rows = cost_table(model)
    assert sum(row.multiply_adds for row in rows) == count_multiply_adds(model, (32, 32, 3))
    assert sum(row.parameters for row in rows) == count_parameters(model)


def visualization(folder: pathlib.Path) -> None:
    model = insert_attention(small_network(), where=["first", "second"])
    maps = attention_maps(model, IMAGES, layers="first_cbam", batch_size=2)
    spatial = maps["first_cbam"].spatial
    assert spatial is not None
    assert spatial.shape == (4, 30, 30, 1)
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, [0, 1, 2, 0])).batch(2)
    attention_maps(model, dataset, layers=["second_cbam"])
    attention_maps(model, list(IMAGES), layers=lambda layer: layer.name == "second_cbam")
    assert grad_cam(model, IMAGES).shape == (4, 32, 32)
    grad_cam(model, dataset, class_index=[0, 1, 2, 0], layer="second")
    grad_cam(model, IMAGES, class_index=np.array([0, 1, 2, 0]), layer=model.get_layer("first"))
    assert class_activation(model, IMAGES, layer="second").layer == "second"
    boxes = [[0, 0, 0.5, 1]] * 4
    assert 0 <= pointing_game(grad_cam(model, IMAGES), boxes) <= 1
    print(energy_inside(grad_cam(model, IMAGES), boxes), area_share(spatial[..., 0], boxes))
    plot_attention(model, IMAGES[0]).savefig(folder / "attention.png")
    plot_grad_cam(model, IMAGES[0], class_index=1, class_names=["cat", "dog", "hen"])
    compare_grad_cam({"plain": small_network(), "CBAM": model}, IMAGES[:2])
    compare_grad_cam([small_network(), model], list(IMAGES[:2]), class_index=0)
    plot_learning_curves({"loss": [1.2, 0.8], "val_loss": [1.3, 0.9]}, metrics=["loss"])
    plot_confusion_matrix([[8, 2], [1, 9]], ["cat", "dog"])


def models() -> None:
    model = keras_cbam.models.ResNet18(attention="cbam", input_shape=(32, 32, 3), num_classes=3)
    keras_cbam.models.ResNet(
        18, attention=CBAM(kernel_initializer="zeros"), stem="cifar", width=0.25, num_classes=3
    )
    keras_cbam.models.ResNet50(attention=None, include_top=False, pooling="avg")
    keras_cbam.models.MobileNet(attention="se", alpha=0.7, include_preprocessing=False)
    assert model.output_shape == (None, 3)


def checkpoints(file: pathlib.Path) -> None:
    model = keras_cbam.models.ResNet50(attention="cbam")
    keras_cbam.models.load_pytorch_checkpoint(model, "resnet50_cbam.pth")
    keras_cbam.models.load_pytorch_checkpoint(model, file, skip_head=True)


def data(folder: pathlib.Path) -> None:
    file = folder / "images.npz"
    np.savez(file, x=np.concatenate([IMAGES] * 3), y=[0, 1, 2] * 4)
    loaded = load_data(file, image_size=32, seed=1, test_fraction=0.5)
    assert loaded.class_names == ["0", "1", "2"]
    part, class_names, name, skipped = load_part(str(file), 32, ["0", "1", "2"])
    assert (len(part), class_names, name, skipped) == (12, ["0", "1", "2"], "images.npz", [])


def classification(folder: pathlib.Path) -> None:
    data(folder)
    loaded = load_data(folder / "images.npz", image_size=32)
    history = fit_classifier(small_network(), loaded, epochs=1, batch_size=4)
    assert len(history["loss"]) == 1
    labels, probabilities = np.array([0, 1]), np.eye(2)
    assert classification_report(labels, probabilities, ["cat", "dog"])["accuracy"] == 1
    assert top_errors(labels, probabilities)["top_1_error"] == 0
    model = small_network()
    keras.utils.save_img(folder / "image.png", IMAGES[0])
    explained, skipped = explain_images(model, [folder / "image.png"], folder / "out", 1)
    assert (explained[0].explained_class, skipped) == ("class 1", [])


def runs(run: pathlib.Path) -> None:
    trained = train_classifier(epochs=1, data=None, backbone="MobileNet", output=run)
    print(trained.report["accuracy"], trained.history["loss"], trained.output)
    evaluate_run(run, data="other_images", split="test", batch_size=32)
    predict_run(str(run), ["photos", "more/*.jpg"], top=3)
    explain_run(run, ["photos"], "explanation", class_index=0, overwrite=True)
    print(export_run(run, "litert", "model.tflite", quantize="int8").agreement)


def detection(folder: pathlib.Path) -> None:
    room = keras_cbam.detection
    scenes = room.clothing_scenes(1000)
    backbone = room.application_backbone("MobileNet", (96, 96, 3), weights=None, levels=(3, 4))
    model = room.SSD(
        backbone, num_classes=10, attention="cbam", extra_filters=(128, 128), use_batch_norm=True
    )
    model.compile("adam")
    model.fit(room.detection_batches(scenes, 16, 96, training=True), epochs=20, shuffle=False)
    print(room.evaluate_detector(model, room.clothing_scenes(200, "test"), image_size=96)["AP50"])
    room.StairNet(backbone, 10, CBAM(4), filters=128, separable=True, extra_padding="same")
    network = attention_backbone("ResNet50", input_shape=(512, 512, 3), weights=None)
    pyramid = room.detection_backbone(network, levels=(3, 4, 5))
    room.FasterRCNN(pyramid, 20, anchor_scale=4.0)
    room.application_backbone("MobileNet", (96, 96, 3), attention="se", weights=None, alpha=0.25)
    room.build_detector("ssd", 10, 96, attention={"class_name": "cbam", "config": {}})
    print(room.coco_folder(folder).test, room.voc_folder(str(folder)).class_names)
    run = room.train_detector(epochs=1, detector="ssd", output=folder / "run")
    print(run.report, room.load_detector(folder / "run"))
