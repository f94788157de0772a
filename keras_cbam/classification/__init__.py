"""A task: image classifiers, trained, measured, explained and exported."""

from keras_cbam._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ClassificationTask": "keras_cbam.classification.task",
        "compare": "keras_cbam.classification.task",
        "classification_report": "keras_cbam.classification.evaluate",
        "evaluate_run": "keras_cbam.classification.evaluate",
        "explain_images": "keras_cbam.classification.explain",
        "explain_run": "keras_cbam.classification.explain",
        "export_run": "keras_cbam.classification.export",
        "fit_classifier": "keras_cbam.classification.task",
        "predict_run": "keras_cbam.classification.predict",
        "top_errors": "keras_cbam.classification.evaluate",
        "train_classifier": "keras_cbam.classification.task",
    },
)
