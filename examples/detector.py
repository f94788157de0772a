"""SSD with CBAM before its classifiers, trained on drawn scenes. Extra: detection."""

from keras_cbam.detection import (
    SSD,
    application_backbone,
    clothing_scenes,
    detection_batches,
    evaluate_detector,
)


def main(scenes=1000, epochs=20, test_scenes=200):
    # `weights="imagenet"` downloads pretrained weights for the backbone.
    model = SSD(
        application_backbone("MobileNet", (96, 96, 3), weights=None, levels=(3, 4)),
        num_classes=10,
        attention="cbam",
        extra_filters=(128, 128),
        use_batch_norm=True,
    )
    model.compile("adam")
    batches = detection_batches(clothing_scenes(scenes), 16, 96, training=True)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=2)
    metrics = evaluate_detector(model, clothing_scenes(test_scenes, "test"), image_size=96)
    print(f"AP@.5 {metrics['AP50']:.3f} on {test_scenes} scenes")
    return metrics


if __name__ == "__main__":
    main()
